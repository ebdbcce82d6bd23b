"""What a wheel and a checkout hold, and that MIM finds it."""

from __future__ import annotations

import collections
import os
import re
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from mmseg_arta import _environment
from tests.wheels import ROOT, SOURCES, pip

MIM = 'mmseg_arta/.mim/'


@pytest.fixture(scope='module')
def names(wheel) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def files_below(folder: str) -> set[str]:
    """Files of the sources below ``folder`` that belong into a wheel."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob('*')
        if path.is_file() and path.suffix != '.pyc' and not path.name.startswith('.')
    }


def test_wheel_holds_every_module(names):
    missing = {name for name in files_below('mmseg_arta') if name.endswith('.py')} - names
    assert not missing, f'not in the wheel (does a folder lack __init__.py?): {sorted(missing)}'


def test_wheel_holds_configs_tools_and_index(names):
    expected = files_below('configs') | files_below('tools') | {'model-index.yml'}
    assert {name.removeprefix(MIM) for name in names if name.startswith(MIM)} == expected


def test_wheel_holds_nothing_else(names):
    tops = {name.split('/')[0].split('-')[0] for name in names}
    assert tops == {'mmseg_arta'}
    assert not [name for name in names if '__pycache__' in name or '/tests/' in name]


def test_building_leaves_no_copies_in_the_checkout(checkout, wheel):
    left = {path.name for path in checkout.iterdir()} - set(SOURCES)
    assert left <= {'mmseg_arta.egg-info'}
    assert not (checkout / 'mmseg_arta' / '.mim').exists()
    assert not list((checkout / 'mmseg_arta.egg-info').rglob('configs'))


def configs_for_training(names: set[str]) -> dict[str, list[str]]:
    """Places of every config by its file name, as MIM looks them up; base files are no configs."""
    places = collections.defaultdict(list)
    for name in sorted(names):
        if name.endswith('.py') and '/configs/' in f'/{name}' and '/_base_/' not in name:
            places[name.rsplit('/', 1)[1]].append(name)
    return dict(places)


def test_no_config_name_occurs_twice_in_the_checkout():
    places = configs_for_training(files_below('configs'))
    assert places
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


FIND_WITH_MIM = """
import os, sys
from mim.utils import get_installed_path, is_installed, recursively_find
assert is_installed('mmseg_arta')
root = get_installed_path('mmseg_arta')
for tool in ('train.py', 'test.py'):
    places = [os.path.join(root, *way, 'tools', tool) for way in (['.mim'], [])]
    print(next(path for path in places if os.path.exists(path)))
print(*recursively_find(root, sys.argv[1], followlinks=True), sep='\\n')
"""


@pytest.mark.parametrize('kind', ['wheel', 'editable'])
def test_mim_finds_tools_and_each_config_once(kind, checkout, request, tmp_path, monkeypatch):
    pytest.importorskip('mim')
    if kind == 'wheel':
        pip('install', '--target', tmp_path / 'site', request.getfixturevalue('wheel'))
        home = tmp_path / 'site'
    else:
        # MIM asks for no kernels; the wheel has them.
        monkeypatch.setenv('MMSEG_ARTA_BUILD_OPS', 'none')
        options = '--no-build-isolation', '--target', tmp_path / 'site', '--editable'
        pip('install', *options, checkout)
        home = checkout
        assert not list((tmp_path / 'site').rglob('.mim'))
        assert not list(checkout.rglob('.mim'))
    config = next(iter(configs_for_training(files_below('configs'))))
    done = subprocess.run(
        [sys.executable, '-c', FIND_WITH_MIM, config],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': str(tmp_path / 'site')},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    train, test, *configs = map(Path, done.stdout.splitlines())
    assert len(configs) == 1
    assert all(path.is_relative_to(home) for path in (train, test, *configs))


def test_model_index_lists_every_metafile():
    listed = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    assert sorted(listed) == sorted(n for n in files_below('configs') if n.endswith('metafile.yml'))


@pytest.fixture(scope='module')
def metadata(wheel) -> str:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith('.dist-info/METADATA')]
        return archive.read(name).decode()


def test_hard_requirements_leave_the_build_of_torch_and_mmcv_to_the_user(metadata):
    hard = [
        re.split(r'[^\w-]', line.split(': ')[1])[0]
        for line in metadata.splitlines()
        if line.startswith('Requires-Dist') and 'extra ==' not in line
    ]
    assert sorted(hard) == ['numpy', 'pillow', 'scipy']


def test_extras_are_ranges_around_the_pins(metadata):
    pins = (ROOT / 'requirements' / 'openmmlab.txt').read_text()
    pinned = re.findall(r'^(onedl-\w+)==([\d.]+)$', pins, re.MULTILINE)
    assert len(pinned) == 4
    for name, version in pinned:
        assert f'Requires-Dist: {name}~={version}; extra == "openmmlab"' in metadata
    assert re.search(r'Requires-Dist: onedl-mmpretrain~=[\d.]+; extra == "pretrain"', metadata)


def test_supported_python_is_the_same_everywhere(metadata):
    supported = re.search(r'Requires-Python: (.+)', metadata).group(1)
    oldest, newest = _environment.OLDEST_PYTHON, _environment.NEWEST_PYTHON
    assert set(supported.split(',')) == {
        '>={}.{}'.format(*oldest),
        f'<{newest[0]}.{newest[1] + 1}',
    }


def test_version_is_read_without_importing(metadata):
    version = runpy.run_path(str(ROOT / 'mmseg_arta' / 'version.py'))['__version__']
    assert f'\nVersion: {version}\n' in metadata


def test_pre_commit_uses_the_pinned_ruff():
    pinned = re.search(r'ruff==(.+)', (ROOT / 'requirements' / 'lint.txt').read_text()).group(1)
    hooks = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())['repos']
    (revision,) = [hook['rev'] for hook in hooks if 'ruff' in hook['repo']]
    assert revision == f'v{pinned}'
