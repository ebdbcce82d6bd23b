"""Builds the CPU kernels: ``python -m mmseg_arta.ops.cpu.build``, or from ``setup.py``.

Needs a checkout (or source distribution) and a C++17 compiler, nothing else: neither PyTorch nor
any other package is imported, so it works inside an isolated build.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

#: File name of the library, beside this file.
LIBRARY = '_C_cpu.so'

SOURCES = Path(__file__).resolve().parents[3] / 'csrc' / 'cpu'

_FLAGS = (
    '-std=c++17',
    '-O3',
    '-fPIC',
    '-fvisibility=hidden',
    '-fno-math-errno',
    '-fno-trapping-math',
    '-Wall',
    '-Wextra',
    '-Wno-psabi',
)

# Sources that are compiled once, and whether products and sums may be contracted there: results
# that are compared for equality must round as the reference does.
_EXACT = ('-ffp-contract=off',)
_COMMON = {
    'dispatch': (),
    'parallel': (),
    'attention': (),
    'deform': (),
    'merge': (),
    'patches': (),
    'masks': (),
    'clusters': _EXACT,
    'nearest': _EXACT,
}

# One copy of a kernel per instruction set; the library chooses at run time.
_KERNELS = ('attention', 'deform', 'merge', 'masks')
_AVX2 = ('-mavx2', '-mfma')
_AVX512 = (*_AVX2, '-mavx512f', '-mavx512vl', '-mavx512bw', '-mavx512dq')
_COPIES = [('base', 'float', ()), ('base', 'double', ())]
_X86_COPIES = [('avx2', 'float', _AVX2), ('avx512', 'float', _AVX512)]


#: Environment variable that tells an installation which kernels to build.
ENV = 'MMSEG_ARTA_BUILD_OPS'


class BuildError(RuntimeError):
    """The library cannot be built; the message says why."""


def find_compiler() -> list[str]:
    """The C++ compiler as the start of a command: ``$CXX``, or the first of g++, clang++, c++.

    Raises:
        BuildError: if there is none.
    """
    named = shlex.split(os.environ.get('CXX', ''))
    for command in [named] if named else [['g++'], ['clang++'], ['c++']]:
        if shutil.which(command[0]):
            return command
    raise BuildError(
        f'no C++ compiler: CXX={named[0]!r} is not found'
        if named
        else 'no C++ compiler: none of g++, clang++, c++ is found; install one or set CXX'
    )


def compile_commands(compiler: list[str], folder: Path) -> dict[Path, list[str]]:
    """The command that compiles each object file into ``folder``."""
    x86 = platform.machine().lower() in ('x86_64', 'amd64')
    common = [*compiler, *_FLAGS, *(['-DARTA_X86'] if x86 else [])]
    commands = {}
    for name, extra in _COMMON.items():
        target = folder / f'{name}.o'
        commands[target] = [*common, *extra, '-c', str(SOURCES / f'{name}.cpp'), '-o', str(target)]
    copies = [
        (kernel, *copy) for kernel in _KERNELS for copy in _COPIES + (_X86_COPIES if x86 else [])
    ]
    for kernel, instructions, real, flags in copies:
        target = folder / f'{kernel}_{instructions}_{real}.o'
        commands[target] = [
            *common,
            *flags,
            '-ffp-contract=fast',
            *(['-DARTA_DOUBLE'] if real == 'double' else []),
            f'-DARTA_TABLE=arta_{kernel}_{instructions}_{real}',
            '-c',
            str(SOURCES / f'{kernel}_kernel.cpp'),
            '-o',
            str(target),
        ]
    return commands


def _run(command: list[str], verbose: bool) -> None:
    if verbose:
        print(shlex.join(command), flush=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if verbose and done.stderr:
        print(done.stderr, file=sys.stderr, flush=True)
    if done.returncode:
        raise BuildError(f'compiler failed: {shlex.join(command)}\n{done.stderr.strip()}')


def build(target: Path | None = None, verbose: bool = False) -> Path:
    """Compile the library and put it into the folder ``target``, by default this package's.

    Returns:
        The library's path.

    Raises:
        BuildError: without sources or compiler, on Windows, and if compiling fails.
    """
    if os.name == 'nt':
        raise BuildError('the CPU kernels are not built on Windows')
    if not SOURCES.is_dir():
        raise BuildError(f'no sources: {SOURCES} is not a folder')
    target = Path(target or Path(__file__).resolve().parent)
    target.mkdir(parents=True, exist_ok=True)
    compiler = find_compiler()
    with tempfile.TemporaryDirectory(prefix='mmseg_arta-ops-') as name:
        folder = Path(name)
        commands = compile_commands(compiler, folder)
        with ThreadPoolExecutor(min(os.cpu_count() or 1, len(commands))) as pool:
            list(pool.map(lambda command: _run(command, verbose), commands.values()))
        built = folder / LIBRARY
        _run(
            [*compiler, '-shared', '-pthread', *map(str, commands), '-o', str(built), '-ldl'],
            verbose,
        )
        # A process that has the old library open keeps it: the name gets a new file.
        fresh = target / f'{LIBRARY}.{os.getpid()}'
        shutil.copy2(built, fresh)
        fresh.replace(target / LIBRARY)
    return target / LIBRARY


def build_for_install(target: Path) -> Path | None:
    """Build what ``MMSEG_ARTA_BUILD_OPS`` asks for, as part of an installation.

    ``auto``, the default, builds what can be built, and so does ``cuda``, which insists on the
    CUDA kernels; ``cpu`` insists on the CPU kernels; ``none`` builds nothing.

    Returns:
        The library's path, or None if it was not built.

    Raises:
        BuildError: for another value, and if what is insisted on cannot be built.
    """
    wanted = os.environ.get(ENV, '').strip() or 'auto'
    if wanted not in ('auto', 'cpu', 'cuda', 'none'):
        raise BuildError(f'{ENV}={wanted!r}: expected auto, cpu, cuda or none')
    if wanted == 'none':
        return None
    try:
        return build(target)
    except BuildError as error:
        if wanted == 'cpu':
            raise
        print(
            f'warning: the C++ kernels are not built, the package will run on plain PyTorch: '
            f'{error}',
            file=sys.stderr,
        )
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description='Build the CPU kernels of mmseg_arta.')
    parser.add_argument('--target', type=Path, help='folder for the library (default: the package)')
    parser.add_argument('--verbose', action='store_true', help='show commands and warnings')
    args = parser.parse_args()
    try:
        print(build(args.target, args.verbose))
    except BuildError as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
