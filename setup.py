"""How mmseg_arta is built; what it is stands in ``pyproject.toml``.

A wheel carries ``configs``, ``tools`` and ``model-index.yml`` in ``mmseg_arta/.mim``, where MIM and
MMEngine look for them. An editable install takes them from the checkout; nothing is linked or
copied there, because MIM searches the whole checkout and refuses a config name it finds twice.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import sysconfig
import tempfile
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
RESOURCES = ('configs', 'tools', 'model-index.yml')


def read_requirements(name: str) -> list[str]:
    """The lines of ``requirements/<name>.txt``, files it includes among them."""
    requirements = []
    for line in (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines():
        line = line.partition('#')[0].strip()
        if line.startswith('-r '):
            requirements += read_requirements(line[3:].strip().removesuffix('.txt'))
        elif line:
            requirements.append(line)
    return requirements


def same_minor(pins: list[str]) -> list[str]:
    """``a==1.2.3`` becomes ``a~=1.2.3``: 1.2.3 or a later 1.2."""
    return [pin.replace('==', '~=') for pin in pins]


def at_least(pins: list[str]) -> list[str]:
    return [pin.replace('==', '>=') for pin in pins]


def copy_resources(target: Path) -> None:
    """Put :data:`RESOURCES` below ``target``, without what Python and editors leave behind."""
    ignore = shutil.ignore_patterns('__pycache__', '*.py[cod]', '.*')
    for name in RESOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=ignore, dirs_exist_ok=True)
        elif source.is_file():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
        else:
            raise FileNotFoundError(f'cannot build mmseg_arta: {source} is missing')


def build_kernels(package: Path) -> None:
    """Compile the native kernels into the package; see ``mmseg_arta/ops/build.py``."""
    # By path: importing the package takes PyTorch, which an isolated build does not have.
    path = ROOT / 'mmseg_arta' / 'ops' / 'build.py'
    spec = importlib.util.spec_from_file_location('build_kernels', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.build_for_install(package / 'ops')


class BuildOutsideTree(build):
    """Builds in a temporary folder.

    A ``build/`` left in the checkout would hold a second copy of every config, and modules deleted
    since would find their way from there into the next wheel.
    """

    def initialize_options(self) -> None:
        super().initialize_options()
        self._folder = tempfile.TemporaryDirectory(prefix='mmseg_arta-build-')
        self.build_base = self._folder.name


class BuildWithResources(build_py):
    """Adds ``mmseg_arta/.mim`` (an editable install uses none of that) and the native kernels."""

    def run(self) -> None:
        super().run()
        package = Path(self.build_lib) / 'mmseg_arta'
        copy_resources(package / '.mim')
        build_kernels(ROOT / 'mmseg_arta' if self.editable_mode else package)


class WheelForMim(bdist_wheel):
    """Adds ``.mim`` to the wheel's ``.dist-info`` as well, and names the platform of the kernels.

    onedl-mim takes the first path that pip recorded for a distribution as the package's folder.
    pip sorts its records, and ``mmseg_arta-0.1.0.dist-info/`` sorts before ``mmseg_arta/``: with a
    distribution named as its package is, MIM looks into ``.dist-info`` only.
    """

    def get_tag(self) -> tuple[str, str, str]:
        # The kernels load into every Python, but run on one platform only.
        has_kernels = any(Path(self.bdist_dir).rglob('*.so'))
        platform = self.plat_name or sysconfig.get_platform()
        return ('py3', 'none', re.sub(r'[-.\s]', '_', platform) if has_kernels else 'any')

    def write_wheelfile(self, wheelfile_base: str, *args: str, **kwargs: str) -> None:
        super().write_wheelfile(wheelfile_base, *args, **kwargs)
        # An editable wheel is written elsewhere and must not hold copies.
        if Path(wheelfile_base).parent == Path(self.bdist_dir):
            copy_resources(Path(wheelfile_base) / '.mim')


setup(
    extras_require={
        'openmmlab': same_minor(read_requirements('openmmlab')),
        'pretrain': same_minor(read_requirements('openmmlab') + read_requirements('pretrain')),
        'export': at_least(read_requirements('export')),
        'test': at_least(read_requirements('test')),
        'dev': at_least(read_requirements('dev')),
    },
    cmdclass={
        'bdist_wheel': WheelForMim,
        'build': BuildOutsideTree,
        'build_py': BuildWithResources,
    },
)
