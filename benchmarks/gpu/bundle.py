"""Gathers the wheels that a machine without a network lacks to run this package.

    python benchmarks/gpu/bundle.py 3.12 OUT [--has torch torchvision triton numpy ...]

Follows the requirements of the wheels themselves, for the other machine's Python on x86-64 Linux,
and leaves out what it has already. This package is among the wheels. There they are installed by

    python3 -m pip install --no-index --no-deps --target FOLDER OUT/*.whl
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from email.parser import Parser
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
#: What a bare machine with PyTorch has.
HAS = ('torch', 'torchvision', 'triton', 'numpy', 'setuptools', 'pip')
#: What running and testing need; versions are those that are pinned.
ROOTS = (
    'onedl-mim',
    'onedl-mmengine',
    'onedl-mmcv',
    'onedl-mmsegmentation',
    'pytest',
    'hypothesis',
)
#: Required by others and left out: mim needs it for `mim download --dataset` alone.
LEFT_OUT = ('opendatalab',)
#: Other names of what a machine has.
SAME = {'opencv-python-headless': 'opencv-python'}
#: The newest glibc whose wheels are taken, and all older ones.
PLATFORMS = ('manylinux_2_28', 'manylinux_2_27', 'manylinux_2_24', 'manylinux_2_17')
PLATFORMS += ('manylinux2014', 'manylinux_2_12', 'manylinux2010', 'manylinux_2_5', 'manylinux1')


def pins() -> dict[str, str]:
    """Versions that `requirements/` pins, by name."""
    found = {}
    for path in sorted((ROOT / 'requirements').glob('*.txt')):
        for line in path.read_text(encoding='utf-8').splitlines():
            text = line.partition('#')[0].strip()
            try:
                requirement = Requirement(text)
            except InvalidRequirement:  # another file's name, or an empty line
                continue
            if len(requirement.specifier) == 1 and '==' in str(requirement.specifier):
                found.setdefault(canonicalize_name(requirement.name), str(requirement.specifier))
    return found


def download(requirement: str, python: str, folder: Path) -> Path:
    """The wheel of one requirement, without its own.

    Where only sources are published, a wheel is built of them; it must fit every machine.

    Raises:
        ValueError: if there is none for that Python.
    """
    target = folder / '.new'
    target.mkdir(exist_ok=True)
    pip = [sys.executable, '-m', 'pip', '--quiet', '--disable-pip-version-check']
    fetch = [*pip, 'download', '--no-deps', '--only-binary=:all:', '--dest', str(target)]
    fetch += ['--python-version', python, '--implementation', 'cp']
    for platform in PLATFORMS:
        fetch += ['--platform', f'{platform}_x86_64']
    done = subprocess.run([*fetch, requirement], capture_output=True, text=True)
    if done.returncode:
        build = [*pip, 'wheel', '--no-deps', '--wheel-dir', str(target), requirement]
        subprocess.run(build, capture_output=True)
    wheels = list(target.glob('*.whl'))
    if len(wheels) != 1 or (done.returncode and not wheels[0].name.endswith('-none-any.whl')):
        for wheel in wheels:
            wheel.unlink()
        reason = (done.stderr.strip().splitlines() or ['no wheel'])[-1]
        raise ValueError(f'{requirement}: no wheel for Python {python}: {reason}')
    return wheels[0].replace(folder / wheels[0].name)


def needs(wheel: Path, python: str) -> Iterator[Requirement]:
    """What a wheel requires on that Python, extras left out."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith('.dist-info/METADATA')]
        metadata = Parser().parsestr(archive.read(name).decode('utf-8'))
    environment = dict(python_version=python, python_full_version=f'{python}.0', extra='')
    environment |= dict(platform_system='Linux', sys_platform='linux', os_name='posix')
    environment |= dict(platform_machine='x86_64', platform_python_implementation='CPython')
    environment |= dict(implementation_name='cpython')
    for text in metadata.get_all('Requires-Dist') or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            yield requirement


def gather(python: str, folder: Path, has: Sequence[str]) -> list[Path]:
    """Download what is needed; this package is built.

    Raises:
        ValueError: if something has no wheel, or the folder holds wheels already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob('*.whl')):
        raise ValueError(f'{folder} holds wheels already: expected an empty folder')
    pinned = pins()
    present = {canonicalize_name(name) for name in (*has, *LEFT_OUT)}
    present |= {SAME[name] for name in present if name in SAME}
    waiting = [Requirement(name) for name in ROOTS]
    wheels: list[Path] = []
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in present:
            continue
        present.add(name)
        wheel = download(f'{name}{pinned.get(name, requirement.specifier)}', python, folder)
        print(f'{wheel.stat().st_size / 2**20:6.1f} MiB  {wheel.name}', flush=True)
        wheels.append(wheel)
        waiting += needs(wheel, python)
    (folder / '.new').rmdir()
    command = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--wheel-dir']
    # Without compiled kernels: they are built where they run.
    environment = {**os.environ, 'MMSEG_ARTA_BUILD_OPS': 'none'}
    built = subprocess.run([*command, str(folder), str(ROOT)], env=environment)
    if built.returncode:
        raise ValueError(f'no wheel of {ROOT}: pip ended with status {built.returncode}')
    return [*wheels, *folder.glob('mmseg_arta-*.whl')]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('python', metavar='VERSION', help="the other machine's, such as 3.12")
    parser.add_argument('out', type=Path, metavar='OUT', help='folder for the wheels')
    parser.add_argument('--has', nargs='+', default=[], metavar='NAME', help='what it has, too')
    parser.add_argument('--most', type=float, default=60, metavar='MIB', help='default: 60')
    args = parser.parse_args(argv)
    try:
        wheels = gather(args.python, args.out, [*HAS, *args.has])
    except (OSError, ValueError) as error:
        print(f'bundle: error: {error}', file=sys.stderr)
        return 2
    size = sum(wheel.stat().st_size for wheel in wheels) / 2**20
    print(f'{size:6.1f} MiB  {len(wheels)} wheels in {args.out}')
    if size > args.most:
        print(
            f'bundle: error: {size:.1f} MiB are more than the {args.most:g} of --most: name with '
            '--has what the machine has',
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
