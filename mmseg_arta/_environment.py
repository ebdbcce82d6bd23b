"""What the doctor looks at: a function per group of components, each giving rows of its table."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ._requirements import (
    INSTALL_OPENMMLAB,
    PARTS,
    Finding,
    Part,
    first_line,
    look_at,
    providers,
    release,
)
from .version import __version__

OK, NOTE, PROBLEM = 'ok', 'note', 'PROBLEM'

OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)
PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Row:
    """One component: what was found, what is needed, and what to do (empty: nothing)."""

    component: str
    found: str
    needed: str = ''
    status: str = OK
    advice: str = ''


def examine() -> list[Row]:
    """All rows. Imports what it looks at, and turns whatever goes wrong into a row."""
    rows = []
    for group in (system, frameworks, devices, libraries, optional, compilers, package, ops):
        try:
            rows += group()
        except Exception as error:
            # A half-broken installation fails in ways nobody foresaw; the other rows still help.
            rows.append(Row(group.__name__, f'check failed ({first_line(error)})', '', PROBLEM))
    return rows


def system() -> list[Row]:
    """Python and the operating system."""
    supported = OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON
    needed = '{}.{} to {}.{}'.format(*OLDEST_PYTHON, *NEWEST_PYTHON)
    advice = '' if supported else f'use an environment with Python {needed}'
    return [
        Row('Python', platform.python_version(), needed, OK if supported else PROBLEM, advice),
        Row('system', f'{platform.system()} {platform.release()} {platform.machine()}'),
    ]


def frameworks() -> list[Row]:
    """PyTorch and the OpenMMLab parts, with what is known not to go together."""
    rows = []
    findings = {part.module: look_at(part) for part in PARTS}
    for name, finding in findings.items():
        rows.append(required(name, finding))
        owners = providers(name)
        if len(owners) > 1:
            # pip lets them overwrite each other's files without a word.
            rows.append(
                Row(
                    f'{name} owners',
                    ' and '.join(owners),
                    'one distribution',
                    PROBLEM,
                    f'pip uninstall -y {" ".join(owners)}; {finding.part.install}',
                )
            )
    rows += weights_only(findings['torch'], findings['mmengine'])
    if findings['mmcv'].ok:
        rows.append(compiled_ops())
    mim = look_at(Part('mim', '', INSTALL_OPENMMLAB))
    rows.append(required('mim', mim))
    if findings['mmseg'].ok:
        rows.append(stock_tools())
    return rows


def required(name: str, finding: Finding) -> Row:
    """The row of something that must be there."""
    if finding.ok:
        return Row(name, finding.found, finding.needed)
    return Row(name, finding.found, finding.needed, PROBLEM, finding.remedy)


def weights_only(torch: Finding, mmengine: Finding) -> list[Row]:
    """MMEngine before 0.10.8 cannot load its own training checkpoints on PyTorch 2.6 and newer."""
    if torch.version is None or mmengine.version is None or not (torch.ok and mmengine.ok):
        return []
    if release(torch.version) < (2, 6) or release(mmengine.version) >= (0, 10, 8):
        return []
    if os.environ.get('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD') == '1':
        return []
    return [
        Row(
            'checkpoints',
            f'mmengine {mmengine.version} cannot load its own with torch {torch.version}',
            'mmengine 0.10.8 or newer',
            PROBLEM,
            mmengine.remedy,
        )
    ]


def compiled_ops() -> Row:
    """Whether mmcv was built with its C++/CUDA ops."""
    try:
        importlib.import_module('mmcv._ext')
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == 'mmcv._ext'
        found = 'none' if missing else f'do not load ({first_line(error)})'
        return Row('mmcv ops', found, 'optional', NOTE, 'only heads such as CCHead need them')
    return Row('mmcv ops', 'compiled', 'optional')


def stock_tools() -> Row:
    """MMSegmentation's train and test scripts, which MIM runs."""
    from ._stock_tools import stock_tool

    try:
        folder = stock_tool('train.py').parent
        stock_tool('test.py')
    except FileNotFoundError:
        return Row('mmseg tools', 'not found', 'train.py, test.py', PROBLEM, INSTALL_OPENMMLAB)
    return Row('mmseg tools', str(folder), 'train.py, test.py')


def devices() -> list[Row]:
    """What PyTorch can compute on, the NVIDIA driver, and threads."""
    torch = look_at(Part('torch', '', ''))
    driver = nvidia_driver()
    if torch.version is None:
        return [Row('device', 'unknown without torch', '', NOTE)]
    return [device(importlib.import_module('torch'), driver), threads()]


def device(torch: ModuleType, driver: str) -> Row:
    """The row of the device that ``torch`` would use; ``driver`` is '' without an NVIDIA GPU."""
    build = f'CUDA {torch.version.cuda}' if torch.version.cuda else 'no CUDA'
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        counted = ', '.join(f'{names.count(n)} x {n}' for n in dict.fromkeys(names))
        return Row('device', f'{counted} ({build}, driver {driver or "unknown"})')
    if driver and torch.version.cuda is None:
        advice = 'a GPU is here, but this PyTorch is a CPU build: install one with CUDA'
        return Row('device', f'CPU ({build}, driver {driver})', '', NOTE, advice)
    if driver:
        advice = f'PyTorch sees no GPU: is driver {driver} too old for {build}, or the GPU hidden?'
        return Row('device', f'CPU ({build}, driver {driver})', '', NOTE, advice)
    if torch.backends.mps.is_available():
        return Row('device', 'Apple GPU (MPS) and CPU')
    return Row('device', f'CPU ({build})')


def nvidia_driver() -> str:
    """Version of the NVIDIA driver, or '' where there is no NVIDIA GPU."""
    query = ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader']
    lines = output_of(query).splitlines()
    return lines[0].strip() if lines and re.match(r'\d', lines[0].strip()) else ''


def threads() -> Row:
    """How many threads PyTorch uses, against the cores this process may use."""
    import torch

    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    used = torch.get_num_threads()
    found = f'{used} on {cores} cores'
    if used > cores:
        return Row('threads', found, '', NOTE, f'slow: export OMP_NUM_THREADS={cores}')
    return Row('threads', found)


def libraries() -> list[Row]:
    """NumPy, SciPy, Pillow and OpenCV."""
    rows = [
        required(name, look_at(Part(module, '', f'pip install {distribution}')))
        for name, module, distribution in (
            ('NumPy', 'numpy', 'numpy'),
            ('SciPy', 'scipy', 'scipy'),
            ('Pillow', 'PIL', 'pillow'),
        )
    ]
    opencv = look_at(Part('cv2', '', 'pip install opencv-python'))
    row = required('OpenCV', opencv)
    if re.search(r'lib\w+\.so', str(opencv.error or '')):
        # The usual trouble on servers: OpenCV's windows need libraries that only desktops have.
        advice = 'install that system library, or opencv-python-headless in place of opencv-python'
        row = Row(row.component, row.found, row.needed, PROBLEM, advice)
    return [*rows, row]


def optional() -> list[Row]:
    """What only some uses need."""
    wanted = (
        ('mmpretrain', 'only for pre-training: pip install "mmseg_arta[pretrain]"'),
        ('torchvision', 'only mmpretrain needs it: install the build made for this PyTorch'),
        ('triton', "only for Triton kernels on a GPU; PyTorch's Linux builds with CUDA bring it"),
    )
    rows = []
    for name, advice in wanted:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            finding = look_at(Part(name, '', ''))
        row = Row(name, finding.found, 'optional')
        rows.append(row if finding.ok else Row(name, finding.found, 'optional', NOTE, advice))
    return rows


def compilers() -> list[Row]:
    """C++ and CUDA compilers, for building the native kernels."""
    rows = []
    for name, command, option, pattern, use in (
        ('C++ compiler', os.environ.get('CXX', 'g++'), '--version', r'(\d+\.\d+[.\d]*)', 'C++'),
        ('nvcc', 'nvcc', '--version', r'release (\d+\.\d+)', 'CUDA'),
    ):
        path = shutil.which(command) or in_cuda_home(command)
        match = re.search(pattern, output_of([path, option])) if path else None
        if match:
            rows.append(Row(name, f'{match.group(1)} ({path})', 'optional'))
        else:
            advice = f'only for building the {use} kernels'
            rows.append(Row(name, 'not found', 'optional', NOTE, advice))
    return rows


def in_cuda_home(command: str) -> str | None:
    home = os.environ.get('CUDA_HOME') or os.environ.get('CUDA_PATH')
    return shutil.which(command, path=str(Path(home, 'bin'))) if home else None


def output_of(command: list[str]) -> str:
    """What a command prints, or '' if it cannot be run or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ''
    return done.stdout


def package() -> list[Row]:
    """This package: version, place, configs, and whether all of it registers."""
    rows = [Row('mmseg_arta', f'{__version__} ({PACKAGE})')]
    folders = (PACKAGE / '.mim' / 'configs', PACKAGE.parent / 'configs')
    folder = next((f for f in folders if f.is_dir()), None)
    if folder is None:
        advice = 'reinstall mmseg_arta: pip install --force-reinstall --no-deps mmseg_arta'
        rows.append(Row('configs', 'not found', str(folders[0]), PROBLEM, advice))
    else:
        configs = [p for p in folder.rglob('*.py') if '_base_' not in p.parts]
        rows.append(Row('configs', f'{len(configs)} ({folder})'))
    if all(look_at(part).ok for part in PARTS):
        rows.append(registration())
    return rows


def registration() -> Row:
    """Whether MMSegmentation's registries take all of this package."""
    try:
        importlib.import_module('mmseg_arta').register()
    except Exception as error:
        advice = 'see the whole error: python -c "import mmseg_arta"'
        return Row('registration', f'failed ({first_line(error)})', '', PROBLEM, advice)
    return Row('registration', 'complete')


def ops() -> list[Row]:
    """The back ends of :mod:`mmseg_arta.ops`."""
    if not look_at(PARTS[0]).ok:
        return [Row('ops', 'unknown without torch', '', NOTE)]
    available: Callable[[], dict[str, str]]
    available = importlib.import_module('mmseg_arta.ops').available_backends
    rows = []
    for name, reason in available().items():
        needed = 'required' if name == 'reference' else 'optional'
        if not reason:
            rows.append(Row(f'ops: {name}', 'available', needed))
        else:
            status = PROBLEM if name == 'reference' else NOTE
            rows.append(Row(f'ops: {name}', 'not available', needed, status, reason))
    return rows
