"""The CUDA kernels compiled for the CPU: one thread of the GPU after the other, for small sizes."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mmseg_arta.ops import build


def toolkit_headers() -> Path | None:
    """The folder of ``cuda_fp16.h``, from where nvcc lies."""
    try:
        nvcc = Path(build.find_nvcc())
    except build.BuildError:
        return None
    homes = [nvcc.resolve().parents[1], *sorted(Path('/usr/local').glob('cuda*'), reverse=True)]
    return next((h / 'include' for h in homes if (h / 'include' / 'cuda_fp16.h').is_file()), None)


def compile_for_the_cpu(folder: Path) -> Path:
    """Build the emulated library; skips the test without sources, compiler or headers."""
    headers = toolkit_headers()
    if not build.SOURCES.is_dir() or headers is None:
        pytest.skip('needs the CUDA sources and the headers of the CUDA toolkit')
    try:
        compiler = build.find_compiler()
    except build.BuildError as error:
        pytest.skip(str(error))
    sources = sorted((build.SOURCES / 'cuda').glob('*.cu'))

    def compile_one(source: Path) -> str:
        target = folder / f'{source.stem}.o'
        options = ['-std=c++17', '-O0', '-fPIC', '-ffp-contract=off', '-x', 'c++']
        command = [*compiler, *options, '-DARTA_EMULATE', f'-isystem{headers}', '-c', str(source)]
        done = subprocess.run([*command, '-o', str(target)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return str(target)

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, sources))
    library = folder / 'emulated.so'
    subprocess.run([*compiler, '-shared', *objects, '-o', str(library)], check=True)
    build.seal(library)
    return library


def has_nvcc() -> bool:
    try:
        return shutil.which(build.find_nvcc()) is not None
    except build.BuildError:
        return False
