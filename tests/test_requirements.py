"""The check that runs when the package is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmseg_arta._requirements import Part, check, look_at, release

ROOT = Path(__file__).parents[1]
INSTALL = 'pip install the-part'


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Writes importable modules: ``modules(name, source)``."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, source: str) -> None:
        (tmp_path / f'{name}.py').write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


@pytest.mark.parametrize(
    ('version', 'expected'),
    [
        ('2.13.0+cpu', (2, 13, 0)),
        ('2.4.0a0+git12', (2, 4, 0)),
        ('1.2.0rc1', (1, 2, 0)),
        ('2.4', (2, 4)),
        ('unknown', ()),
    ],
)
def test_release_is_the_leading_numbers(version, expected):
    assert release(version) == expected


@pytest.mark.parametrize(
    ('found', 'minimum', 'ok'),
    [
        ('2.13.0', '2.4', True),  # numbers are compared, not text
        ('2.4.0', '2.4', True),
        ('2.3.9', '2.4', False),
        ('1.13', '2.4', False),
        ('anything', '', True),
        ('unknown', '2.4', False),
    ],
)
def test_version_against_minimum(modules, found, minimum, ok):
    modules('arta_part_versioned', f'__version__ = {found!r}')
    assert look_at(Part('arta_part_versioned', minimum, INSTALL)).ok is ok


def test_nothing_is_raised_when_all_is_well(modules):
    modules('arta_part_good', '__version__ = "2.5"')
    check([Part('arta_part_good', '2.4', INSTALL)])


def test_one_error_names_every_part_found_wrong(modules):
    modules('arta_part_good', '__version__ = "2.5"')
    modules('arta_part_old', '__version__ = "2.3.1"')
    modules('arta_part_broken', 'raise AssertionError("needs mmcv < 2.2\\nand more")')
    parts = [
        Part('arta_part_good', '2.4', 'pip install good'),
        Part('arta_part_old', '2.4', 'pip install newer'),
        Part('arta_part_missing', '1.0', 'pip install missing'),
        Part('arta_part_broken', '1.0', 'pip install mended'),
    ]
    with pytest.raises(ImportError) as caught:
        check(parts)
    text = str(caught.value)
    assert 'arta_part_old: 2.3.1; needed: 2.4 or newer' in text
    assert 'arta_part_missing: not found; needed: 1.0 or newer' in text
    assert 'arta_part_broken: its import fails (AssertionError: needs mmcv < 2.2)' in text
    assert all(f'pip install {what}' in text for what in ('newer', 'missing', 'mended'))
    assert 'good' not in text
    assert 'python -m mmseg_arta.doctor' in text


def test_a_part_that_cannot_be_imported_is_shown_as_the_cause(modules):
    modules('arta_part_broken', 'import arta_part_of_the_part')
    with pytest.raises(ImportError, match=r'its import fails \(ModuleNotFoundError') as caught:
        check([Part('arta_part_broken', '1.0', INSTALL)])
    assert 'arta_part_of_the_part' in str(caught.value.__cause__)


def test_a_missing_part_has_no_cause():
    with pytest.raises(ImportError) as caught:
        check([Part('arta_part_missing', '1.0', INSTALL)])
    assert caught.value.__cause__ is None


def test_another_distribution_of_the_same_module_is_to_be_removed_first(modules, monkeypatch):
    import mmseg_arta._requirements as requirements

    modules('arta_part_old', '__version__ = "1.0"')
    owners = {'arta_part_old': ['arta-part-classic', 'onedl-arta-part']}
    monkeypatch.setattr(requirements.importlib.metadata, 'packages_distributions', lambda: owners)
    finding = look_at(Part('arta_part_old', '2.0', requirements.INSTALL_OPENMMLAB))
    assert finding.remedy.startswith('pip uninstall -y arta-part-classic; pip install')


def run_with_fakes(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python where PyTorch is old, mmengine broken, mmcv fine and mmseg missing."""
    (tmp_path / 'torch.py').write_text('__version__ = "2.3.1"')
    (tmp_path / 'mmengine.py').write_text('raise RuntimeError("no such symbol")')
    (tmp_path / 'mmcv.py').write_text('__version__ = "2.1.0"')
    (tmp_path / 'sitecustomize.py').write_text('import sys; sys.modules["mmseg"] = None')
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': path},
        cwd=tmp_path,
    )


def test_importing_the_package_says_what_is_wrong(tmp_path):
    done = run_with_fakes(tmp_path, '-c', 'import mmseg_arta')
    assert done.returncode == 1
    assert 'torch: 2.3.1; needed: 2.4 or newer' in done.stderr
    assert 'mmengine: its import fails (RuntimeError: no such symbol)' in done.stderr
    assert 'mmseg: not found; needed: 1.2 or newer' in done.stderr
    assert 'mmcv:' not in done.stderr


def test_the_doctor_runs_where_the_import_fails(tmp_path):
    done = run_with_fakes(tmp_path, '-m', 'mmseg_arta.doctor')
    assert done.returncode == 1, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert 'PROBLEM' in lines['torch']
    assert 'PROBLEM' in lines['mmengine']
    assert 'PROBLEM' in lines['mmseg']
    assert 'PROBLEM' not in lines['mmcv']
