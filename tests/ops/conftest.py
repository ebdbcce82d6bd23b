from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mmseg_arta.ops import build, library
from tests.ops.emulated_cuda import compile_for_the_cpu


@pytest.fixture(scope='session')
def built_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C++ library of the present sources: the package's, or one built for the tests."""
    own = [*build.SOURCES.glob('*.h'), *(build.SOURCES / 'cpu').glob('*'), Path(build.__file__)]
    sources = own if build.SOURCES.is_dir() else []
    newest = max((path.stat().st_mtime for path in sources), default=0)
    path = library.cpu.path
    if path.is_file() and path.stat().st_mtime >= newest:
        return path
    try:
        return build.build('cpu', tmp_path_factory.mktemp('ops'))
    except build.BuildError as error:
        if 'compiler failed' in str(error):
            raise
        pytest.skip(f'the C++ kernels are not built: {error}')


@pytest.fixture
def cpu_kernels(built_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the C++ back end available and the choice between back ends free."""
    monkeypatch.setattr(library.cpu, 'path', built_library)
    monkeypatch.delenv('MMSEG_ARTA_OPS', raising=False)
    assert not library.cpu.unusable()


@pytest.fixture(scope='session')
def emulated_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CUDA kernels compiled for the CPU."""
    return compile_for_the_cpu(tmp_path_factory.mktemp('emulated'))


@pytest.fixture
def emulated_cuda(emulated_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The CUDA back end runs on the CPU: one thread of the GPU after the other."""
    monkeypatch.setattr(library.cuda, 'path', emulated_library)
    monkeypatch.setattr(library.cuda, 'device', 'cpu')
    assert not library.cuda.load()[1]


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Forgets what was compiled and counted before, and afterwards what the test compiled."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()
