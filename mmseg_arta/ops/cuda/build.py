"""Builds the CUDA kernels: ``python -m mmseg_arta.ops.cuda.build``, or from ``setup.py``.

Needs a checkout (or source distribution) and nvcc, no GPU, and neither PyTorch nor any other
package.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

#: File name of the library, beside this file.
LIBRARY = '_C_cuda.so'

SOURCES = Path(__file__).resolve().parents[3] / 'csrc' / 'cuda'

#: Environment variable that tells an installation which kernels to build.
ENV = 'MMSEG_ARTA_BUILD_OPS'

#: Environment variable with the architectures to build for, such as ``80,90``, or ``native`` for
#: those of this machine's GPUs.
ARCHS_ENV = 'MMSEG_ARTA_CUDA_ARCHS'

#: Compute capabilities that get machine code; newer ones compile the last one's PTX when loading.
ARCHS = ('80', '86', '89', '90')

_FLAGS = ('-std=c++17', '-O3', '-Xcompiler', '-fPIC,-fvisibility=hidden')

# Results that are compared for equality must round as the reference does.
_EXACT = ('places',)


class BuildError(RuntimeError):
    """The library cannot be built; the message says why."""


def find_nvcc() -> str:
    """The CUDA compiler: ``$NVCC``, nvcc on the path, or that of ``$CUDA_HOME``.

    Raises:
        BuildError: if there is none.
    """
    named = os.environ.get('NVCC', '').strip()
    home = os.environ.get('CUDA_HOME', '').strip()
    inside = os.path.join(home, 'bin', 'nvcc') if home else ''
    for command in [named] if named else ['nvcc', inside, '/usr/local/cuda/bin/nvcc']:
        found = shutil.which(command) if command else None
        if found:
            return found
    raise BuildError(
        f'no CUDA compiler: NVCC={named!r} is not found'
        if named
        else 'no CUDA compiler: nvcc is not found; install the CUDA toolkit or set NVCC'
    )


def _lines_of(*command: str) -> list[str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise BuildError(f'{ARCHS_ENV}=native: {command[0]} cannot be run: {error}') from error
    if done.returncode:
        raise BuildError(f'{ARCHS_ENV}=native: {shlex.join(command)} failed: {done.stderr.strip()}')
    return done.stdout.split()


def present_archs(nvcc: str) -> tuple[str, ...]:
    """Those of this machine's GPUs; for one that the compiler does not know yet, its newest.

    Raises:
        BuildError: if there is no GPU, or none that the compiler knows.
    """
    found = _lines_of('nvidia-smi', '--query-gpu=compute_cap', '--format=csv,noheader')
    known = [int(line.rpartition('_')[2]) for line in _lines_of(nvcc, '--list-gpu-arch')]
    archs = {max((k for k in known if k <= int(f.replace('.', ''))), default=0) for f in found}
    if not archs or 0 in archs:
        raise BuildError(
            f'{ARCHS_ENV}=native: {nvcc} knows none of the GPUs of compute capability '
            f'{", ".join(found) or "(there is none)"}'
        )
    return tuple(map(str, sorted(archs)))


def chosen_archs(nvcc: str = 'nvcc') -> tuple[str, ...]:
    """:data:`ARCHS`, or what ``MMSEG_ARTA_CUDA_ARCHS`` names.

    Raises:
        BuildError: if it names something else than numbers, or GPUs that cannot be found.
    """
    named = os.environ.get(ARCHS_ENV, '').replace('.', '').replace(';', ',').strip()
    if not named:
        return ARCHS
    if named == 'native':
        return present_archs(nvcc)
    archs = tuple(part.strip() for part in named.split(','))
    if not all(part.isdigit() for part in archs):
        raise BuildError(f'{ARCHS_ENV}={named!r}: expected numbers like 80,90, or native')
    return archs


def compile_commands(nvcc: str, folder: Path, archs: tuple[str, ...]) -> dict[Path, list[str]]:
    """The command that compiles each object file into ``folder``."""
    codes = [f'-gencode=arch=compute_{arch},code=sm_{arch}' for arch in archs]
    newest = max(archs, key=int)
    codes.append(f'-gencode=arch=compute_{newest},code=compute_{newest}')
    commands = {}
    for source in sorted(SOURCES.glob('*.cu')):
        target = folder / f'{source.stem}.o'
        exact = ['-fmad=false'] if source.stem in _EXACT else []
        commands[target] = [
            *(nvcc, *_FLAGS, *codes, *exact, '-Xptxas', '-v'),
            *('-c', str(source), '-o', str(target)),
        ]
    return commands


def _run(command: list[str], verbose: bool) -> None:
    if verbose:
        print(shlex.join(command), flush=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if verbose and done.stderr:
        print(done.stderr, file=sys.stderr, flush=True)
    if done.returncode:
        raise BuildError(f'nvcc failed: {shlex.join(command)}\n{done.stderr.strip()}')


def build(target: Path | None = None, verbose: bool = False) -> Path:
    """Compile the library and put it into the folder ``target``, by default this package's.

    Returns:
        The library's path.

    Raises:
        BuildError: without sources or compiler, and if compiling fails.
    """
    if not SOURCES.is_dir():
        raise BuildError(f'no sources: {SOURCES} is not a folder')
    nvcc = find_nvcc()
    archs = chosen_archs(nvcc)
    target = Path(target or Path(__file__).resolve().parent)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='mmseg_arta-ops-') as name:
        folder = Path(name)
        commands = compile_commands(nvcc, folder, archs)
        with ThreadPoolExecutor(min(os.cpu_count() or 1, len(commands))) as pool:
            list(pool.map(lambda command: _run(command, verbose), commands.values()))
        built = folder / LIBRARY
        _run([nvcc, '-shared', *map(str, commands), '-o', str(built)], verbose)
        # A process that has the old library open keeps it: the name gets a new file.
        fresh = target / f'{LIBRARY}.{os.getpid()}'
        shutil.copy2(built, fresh)
        fresh.replace(target / LIBRARY)
    return target / LIBRARY


def has_driver() -> bool:
    """Whether this machine has NVIDIA's driver, and so perhaps a GPU."""
    return Path('/proc/driver/nvidia/version').exists() or shutil.which('nvidia-smi') is not None


def build_for_install(target: Path) -> Path | None:
    """Build what ``MMSEG_ARTA_BUILD_OPS`` asks for, as part of an installation.

    ``cuda`` insists on the CUDA kernels; ``auto``, the default, builds them where nvcc and
    NVIDIA's driver are found.

    Returns:
        The library's path, or None if it was not built.

    Raises:
        BuildError: if what is insisted on cannot be built.
    """
    wanted = os.environ.get(ENV, '').strip() or 'auto'
    if wanted not in ('auto', 'cuda') or (wanted == 'auto' and not has_driver()):
        return None
    try:
        return build(target)
    except BuildError as error:
        if wanted == 'cuda':
            raise
        print(f'warning: the CUDA kernels are not built: {error}', file=sys.stderr)
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description='Build the CUDA kernels of mmseg_arta.')
    parser.add_argument('--target', type=Path, help='folder for the library (default: the package)')
    parser.add_argument('--verbose', action='store_true', help='show commands, registers, spills')
    args = parser.parse_args()
    try:
        print(build(args.target, args.verbose))
    except BuildError as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
