"""Wheels of this checkout, built and installed without the network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    *('CHANGELOG.md', 'LICENSE', 'MANIFEST.in', 'README.md'),
    *('model-index.yml', 'pyproject.toml', 'setup.py'),
    *('configs', 'csrc', 'mmseg_arta', 'requirements', 'tools'),
]


def copy_sources(folder: Path) -> None:
    """Copy the sources, so that building can leave nothing in the real ones."""
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy2(source, folder / name)


def pip(command: str, *arguments: object) -> None:
    """Run pip without the network and without dependencies."""
    done = subprocess.run(
        [sys.executable, '-m', 'pip', command, '--no-deps', '--no-index', *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def build_wheel(sources: Path, folder: Path) -> Path:
    """Build the wheel of copied sources."""
    pip('wheel', '--no-build-isolation', '--wheel-dir', folder, sources)
    (path,) = folder.glob('*.whl')
    return path


def environment(site: Path) -> dict[str, str]:
    """Variables of a process that sees what is installed in ``site`` before anything else.

    ``mim`` and ``python`` are those of this environment.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get('PATH', '')])
    return {**os.environ, 'PATH': path, 'PYTHONPATH': str(site), 'OMP_NUM_THREADS': '1'}
