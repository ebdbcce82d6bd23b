"""Builds the native kernels: ``python -m mmseg_arta.ops.build cpu`` or ``cuda``, or from setup.py.

Needs a checkout (or source distribution) and a C++17 compiler or nvcc, no GPU, and neither PyTorch
nor any other package, so it works inside an isolated build.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

#: Sources of every back end in a folder of its name, and what they share.
SOURCES = Path(__file__).resolve().parents[2] / 'csrc'

#: File names of the libraries, beside this file.
LIBRARIES = {'cpu': '_C_cpu.so', 'cuda': '_C_cuda.so'}

#: Environment variable that tells an installation which kernels to build.
ENV = 'MMSEG_ARTA_BUILD_OPS'

#: Environment variable with the architectures to build CUDA kernels for, such as ``80,90``, or
#: ``native`` for those of this machine's GPUs.
ARCHS_ENV = 'MMSEG_ARTA_CUDA_ARCHS'

#: Compute capabilities that get machine code; newer ones compile the last one's PTX when loading.
ARCHS = ('80', '86', '89', '90')

# Sources whose products and sums may not be contracted: results that are compared for equality
# must round as the reference does.
_EXACT = {'cpu': ('clusters', 'nearest'), 'cuda': ('places',)}

_CPU_FLAGS = (
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
# Reads and writes outside of arrays, and what the language leaves undefined, end the process. The
# process must have loaded libasan before: see the Makefile.
_SANITIZE = (
    '-fsanitize=address,undefined,float-cast-overflow',
    '-fno-sanitize-recover=all',
)
_SANITIZED_FLAGS = (*_SANITIZE, '-O0', '-g')  # others take minutes to compile
_CUDA_FLAGS = ('-std=c++17', '-O3', '-Xcompiler', '-fPIC,-fvisibility=hidden')

# Of every `*_kernel.cpp` one copy per instruction set; the library chooses at run time.
_AVX2 = ('-mavx2', '-mfma')
_AVX512 = (*_AVX2, '-mavx512f', '-mavx512vl', '-mavx512bw', '-mavx512dq')
_COPIES = [('base', 'float', ()), ('base', 'double', ())]
_X86_COPIES = [('avx2', 'float', _AVX2), ('avx512', 'float', _AVX512)]


# What the end of a library says of all that comes before it; loaders do not look there.
_SEAL = b'mmseg_arta sha256 '
_SEAL_LENGTH = len(_SEAL) + hashlib.sha256().digest_size


class BuildError(RuntimeError):
    """A library cannot be built; the message says why."""


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


def _words_of(*command: str) -> list[str]:
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
    found = _words_of('nvidia-smi', '--query-gpu=compute_cap', '--format=csv,noheader')
    known = [int(line.rpartition('_')[2]) for line in _words_of(nvcc, '--list-gpu-arch')]
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


def cpu_commands(
    compiler: list[str], folder: Path, flags: Sequence[str] = ()
) -> dict[Path, list[str]]:
    """The command that compiles each C++ object file into ``folder``, with further flags."""
    x86 = platform.machine().lower() in ('x86_64', 'amd64')
    common = [*compiler, *_CPU_FLAGS, *flags, *(['-DARTA_X86'] if x86 else [])]
    commands = {}
    for source in sorted((SOURCES / 'cpu').glob('*.cpp')):
        if not source.stem.endswith('_kernel'):
            exact = ['-ffp-contract=off'] if source.stem in _EXACT['cpu'] else []
            target = folder / f'{source.stem}.o'
            commands[target] = [*common, *exact, '-c', str(source), '-o', str(target)]
            continue
        kernel = source.stem.removesuffix('_kernel')
        for instructions, real, own in _COPIES + (_X86_COPIES if x86 else []):
            target = folder / f'{kernel}_{instructions}_{real}.o'
            commands[target] = [
                *(*common, *own, '-ffp-contract=fast'),
                *(['-DARTA_DOUBLE'] if real == 'double' else []),
                f'-DARTA_TABLE=arta_{kernel}_{instructions}_{real}',
                *('-c', str(source), '-o', str(target)),
            ]
    return commands


def cuda_commands(nvcc: str, folder: Path, archs: tuple[str, ...]) -> dict[Path, list[str]]:
    """The command that compiles each CUDA object file into ``folder``."""
    codes = [f'-gencode=arch=compute_{arch},code=sm_{arch}' for arch in archs]
    newest = max(archs, key=int)
    codes.append(f'-gencode=arch=compute_{newest},code=compute_{newest}')
    commands = {}
    for source in sorted((SOURCES / 'cuda').glob('*.cu')):
        target = folder / f'{source.stem}.o'
        exact = ['-fmad=false'] if source.stem in _EXACT['cuda'] else []
        commands[target] = [
            *(nvcc, *_CUDA_FLAGS, *codes, *exact, '-Xptxas', '-v'),
            *('-c', str(source), '-o', str(target)),
        ]
    return commands


def seal(path: Path) -> None:
    """Append to a library what :func:`damage` knows it by."""
    content = path.read_bytes()
    with path.open('ab') as file:
        file.write(_SEAL + hashlib.sha256(content).digest())


def damage(path: Path) -> str:
    """Why a library is not what was built, such as a copy that was cut off; '' if it is."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return str(error)
    end = content[-_SEAL_LENGTH:]
    if len(end) < _SEAL_LENGTH or not end.startswith(_SEAL):
        return f'it is cut off, or not from this build: {len(content)} bytes without a seal'
    if hashlib.sha256(content[:-_SEAL_LENGTH]).digest() != end[len(_SEAL) :]:
        return f'it is damaged: its {len(content)} bytes are not those that were built'
    return ''


def _run(command: list[str], verbose: bool) -> None:
    if verbose:
        print(shlex.join(command), flush=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if verbose and done.stderr:
        print(done.stderr, file=sys.stderr, flush=True)
    if done.returncode:
        raise BuildError(f'compiler failed: {shlex.join(command)}\n{done.stderr.strip()}')


# The commands that compile into a folder; how the linking command begins and ends.
_Steps = tuple[Callable[[Path], dict[Path, list[str]]], list[str], list[str]]


def _prepare_cpu(sanitize: bool = False) -> _Steps:
    if os.name == 'nt':
        raise BuildError('the CPU kernels are not built on Windows')
    compiler = find_compiler()
    return (
        lambda folder: cpu_commands(compiler, folder, _SANITIZED_FLAGS if sanitize else ()),
        [*compiler, '-shared', '-pthread', *(_SANITIZE if sanitize else ())],
        ['-ldl'],
    )


def _prepare_cuda() -> _Steps:
    nvcc = find_nvcc()
    archs = chosen_archs(nvcc)
    return lambda folder: cuda_commands(nvcc, folder, archs), [nvcc, '-shared'], []


def build(
    backend: str, target: Path | None = None, verbose: bool = False, sanitize: bool = False
) -> Path:
    """Compile the library of a back end and put it into a folder.

    Args:
        backend: 'cpu' or 'cuda'.
        target: the folder, by default this package's.
        verbose: show commands and what the compiler says.
        sanitize: 'cpu' with AddressSanitizer and UndefinedBehaviorSanitizer, to be tested.

    Returns:
        The library's path.

    Raises:
        BuildError: without sources or compiler, and if compiling fails.
    """
    sources = SOURCES / backend
    if not sources.is_dir():
        raise BuildError(f'no sources: {sources} is not a folder')
    commands_into, link, libraries = _prepare_cpu(sanitize) if backend == 'cpu' else _prepare_cuda()
    target = Path(target or Path(__file__).resolve().parent)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='mmseg_arta-ops-') as name:
        folder = Path(name)
        commands = commands_into(folder)
        with ThreadPoolExecutor(min(os.cpu_count() or 1, len(commands))) as pool:
            list(pool.map(lambda command: _run(command, verbose), commands.values()))
        built = folder / LIBRARIES[backend]
        _run([*link, *map(str, commands), '-o', str(built), *libraries], verbose)
        seal(built)
        # A process that has the old library open keeps it: the name gets a new file.
        fresh = target / f'{built.name}.{os.getpid()}'
        shutil.copy2(built, fresh)
        return fresh.replace(target / built.name)


def has_driver() -> bool:
    """Whether this machine has NVIDIA's driver, and so perhaps a GPU."""
    return Path('/proc/driver/nvidia/version').exists() or shutil.which('nvidia-smi') is not None


def build_for_install(target: Path) -> list[Path]:
    """Build what ``MMSEG_ARTA_BUILD_OPS`` asks for, as part of an installation.

    ``auto``, the default, builds the C++ kernels where there is a compiler, and the CUDA kernels
    where nvcc and NVIDIA's driver are found; ``cpu`` insists on the C++ kernels and leaves CUDA
    out; ``cuda`` insists on the CUDA kernels, and builds the others if it can; ``none`` builds
    nothing.

    Returns:
        Paths of the libraries that were built.

    Raises:
        BuildError: for another value, and if what is insisted on cannot be built.
    """
    wanted = os.environ.get(ENV, '').strip() or 'auto'
    if wanted not in ('auto', 'cpu', 'cuda', 'none'):
        raise BuildError(f'{ENV}={wanted!r}: expected auto, cpu, cuda or none')
    backends = [] if wanted == 'none' else ['cpu']
    if wanted == 'cuda' or (wanted == 'auto' and has_driver()):
        backends.append('cuda')
    built = []
    for backend in backends:
        try:
            built.append(build(backend, target))
        except BuildError as error:
            if wanted == backend:
                raise
            language = {'cpu': 'C++', 'cuda': 'CUDA'}[backend]
            print(
                f'warning: the {language} kernels are not built, the package runs without them: '
                f'{error}',
                file=sys.stderr,
            )
    return built


def main() -> None:
    parser = argparse.ArgumentParser(
        prog='python -m mmseg_arta.ops.build', description='Build native kernels of mmseg_arta.'
    )
    parser.add_argument('backend', choices=LIBRARIES, help='C++ or CUDA kernels')
    parser.add_argument('--target', type=Path, help='folder for the library (default: the package)')
    parser.add_argument('--verbose', action='store_true', help='show commands, warnings, registers')
    parser.add_argument(
        '--sanitize', action='store_true', help='C++ kernels that end where they go wrong'
    )
    args = parser.parse_args()
    try:
        print(build(args.backend, args.target, args.verbose, args.sanitize))
    except BuildError as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
