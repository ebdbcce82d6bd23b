from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mmseg_arta.ops.cpu import build, library


@pytest.fixture(scope='session')
def built_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C++ library of the present sources: the package's, or one built for the tests."""
    own = [*build.SOURCES.parent.glob('*.h'), *build.SOURCES.glob('*'), Path(build.__file__)]
    sources = own if build.SOURCES.is_dir() else []
    newest = max((path.stat().st_mtime for path in sources), default=0)
    if library.PATH.is_file() and library.PATH.stat().st_mtime >= newest:
        return library.PATH
    try:
        return build.build(tmp_path_factory.mktemp('ops'))
    except build.BuildError as error:
        if 'compiler failed' in str(error):
            raise
        pytest.skip(f'the C++ kernels are not built: {error}')


@pytest.fixture
def cpu_kernels(built_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the C++ back end available and the choice between back ends free."""
    monkeypatch.setattr(library, 'PATH', built_library)
    monkeypatch.delenv('MMSEG_ARTA_OPS', raising=False)
    _, reason = library.load(built_library)
    assert not reason


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Forgets what was compiled and counted before, and afterwards what the test compiled."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()
