"""Listing the bundled configs, and configs of one's own that inherit them."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from mmengine.config import Config

import mmseg_arta
from mmseg_arta import configs
from mmseg_arta.config_files import config_folders, find_config
from tests.processes import python_environment


def family(path: Path) -> str:
    (folder,) = config_folders('mmseg_arta')
    return path.relative_to(folder).parts[0]


NANO = 'arta-nano_segformer_1xb4-2k_camvid-256x256'
STOCK = 'segformer_mit-b0_8xb2-160k_ade20k-512x512'
# One of every family, of every kind of data and schedule.
EVERY = [
    NANO,
    'aff-mini_mask2former_4xb8-45k_cityscapes-512x1024',
    'arta-tiny_16xb64-300e_in1k-224x224',
    'dcts-policy_efficientnet-lite0_1xb8-50k_ade20k-512x512',
    'dtop_vit-b16_8xb2-40k_ade20k-512x512',
    'dups-tiny_mask2former_4xb8-80k_coco-stuff164k-512x512',
    'lrformer-s_lrhead_4xb2-160k_cityscapes-1024x1024',
    'mask2former_swin-t_8xb2-160k_ade20k-512x512',
    'segformer_mit-b0_1xb4-2k_camvid-256x256',
    'segvit_vit-l16_8xb2-80k_coco-stuff10k-512x512',
    'step-8-t6899_vit-b16_1xb4-90k_cityscapes-512x512',
]


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    code = configs.main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def load(path: str | Path) -> dict:
    return Config.fromfile(path, import_custom_modules=False).to_dict()


def test_all_are_listed(capsys):
    code, out, _ = run(capsys)
    names = out.splitlines()
    (folder,) = config_folders('mmseg_arta')
    files = {path.stem for path in folder.rglob('*.py') if '_base_' not in path.parts}
    assert code == 0 and len(names) == len(files) and set(names) == files


def test_the_command_is_quick():
    done = subprocess.run(
        [sys.executable, '-X', 'importtime', '-m', 'mmseg_arta.configs', NANO],
        capture_output=True,
        text=True,
        env=python_environment(),
    )
    assert (done.returncode, done.stdout) == (0, f'{NANO}\n')
    imported = set(re.findall(r'\| +([\w.]+)$', done.stderr, flags=re.M))
    assert 'mmseg_arta.config_files' in imported and not imported & {'torch', 'mmseg', 'mmcv'}


@pytest.mark.parametrize(
    ('arguments', 'pattern'),
    [
        (['upernet'], r'.*upernet.*'),
        (['arta-tiny_*', 'upernet'], r'arta-tiny_upernet.*'),
        (['--dataset', 'camvid'], r'.*_camvid-.*'),
        (['--family', 'dups', '--dataset', 'cityscapes'], r'dups-.*_cityscapes-.*'),
        (['--family', 'segvit', '--family', 'dtop'], '.*'),
        ([f'{NANO}.py'], NANO),
        (['cts_vit-b16_1xb4-90k_cityscapes-512x512'], 'cts_vit-b16_1xb4-90k_cityscapes-512x512'),
    ],
)
def test_lists_are_filtered(capsys, arguments, pattern):
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    names = run(capsys)[1].splitlines()
    families = [value for flag, value in pairwise(arguments) if flag == '--family']
    names = [name for name in names if not families or family(find_config(name)) in families]
    assert out.splitlines() == [name for name in names if re.fullmatch(pattern, name)] != []


@pytest.mark.parametrize('name', EVERY)
def test_own_config_is_what_it_inherits(capsys, tmp_path, name):
    own = tmp_path / 'own.py'
    code, out, _ = run(capsys, name, '--out', own)
    assert code == 0 and f'{own} inherits {name}' in out
    text = own.read_text()
    assert str(Path(mmseg_arta.__file__).parent) not in text  # nothing of this machine
    assert load(own) == load(find_config(name))
    # What stands there as comments is valid, and what the config says anyway.
    settings = re.sub(r'^# (?!Inherits|What)', '', text, flags=re.M)
    assert settings.count('\n# ') < text.count('\n# ')
    own.write_text(settings)
    assert load(own) == load(find_config(name))


def test_settings_replace_inherited_ones(capsys, tmp_path):
    own = tmp_path / 'own.py'
    run(capsys, NANO, '--out', own)
    with own.open('a') as file:
        file.write('train_cfg = dict(max_iters=7)\nmodel = dict(neck=dict(_delete_=True))\n')
    config = load(own)
    assert config['train_cfg']['max_iters'] == 7 and config['train_cfg']['val_interval'] == 500
    assert config['model']['neck'] == {}


def test_flat_config_is_the_same_and_can_be_read_as_a_base(capsys, tmp_path):
    code, out, _ = run(capsys, NANO, '--flat', '--out', tmp_path / 'flat.py')
    assert code == 0 and 'holds all settings' in out
    assert '_base_' not in (tmp_path / 'flat.py').read_text()
    assert load(tmp_path / 'flat.py') == load(find_config(NANO))
    (tmp_path / 'own.py').write_text(
        'from mmengine.config import read_base\n\n'
        'with read_base():\n    from .flat import *\n\n'
        'train_cfg.update(max_iters=7)\n'
    )
    config = Config.fromfile(tmp_path / 'own.py')
    assert config.train_cfg.max_iters == 7
    assert config.model.backbone.type == 'ARTA'


def test_files_are_replaced_only_when_asked_to(capsys, tmp_path):
    own = tmp_path / 'own.py'
    own.write_text('mine')
    code, _, err = run(capsys, NANO, '--out', own)
    assert (code, own.read_text()) == (2, 'mine')
    assert err == f'configs: error: --out {own} exists; --overwrite replaces it\n'
    assert run(capsys, NANO, '--out', own, '--overwrite')[0] == 0
    assert NANO in own.read_text() and [path.name for path in tmp_path.iterdir()] == ['own.py']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['arta-tiny_mask2former_ade20k', '--out', 'own.py'], 'near it: arta-'),
        (['nothing-like-this-at-all'], "no bundled config fits 'nothing-like-this-at-all'\n"),
        (['--family', 'atra'], '--family atra: known are aff, arta, '),
        (['--dataset', 'ade'], '--dataset ade: known are ade20k, '),
        (['arta-nano_*', '--out', 'own.py'], '--out takes one config, found 4: arta-nano_'),
        ([NANO, '--out', 'own.yaml'], "a config is a Python file, found suffix '.yaml'"),
        ([NANO, '--out', 'nowhere/own.py'], 'does not exist'),
    ],
)
def test_errors_are_one_line_and_write_nothing(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, '')
    assert message in err and err.startswith('configs: error: ') and err.count('\n') == 1
    assert not list(tmp_path.iterdir())


def test_bundled_configs_are_never_replaced(capsys):
    path = find_config(NANO)
    before = path.read_text()
    code, _, err = run(capsys, NANO, '--out', path, '--overwrite')
    assert code == 2 and 'is a bundled config' in err and path.read_text() == before


@pytest.mark.parametrize('flag', ['--flat', '--overwrite'])
def test_flags_of_writing_need_a_file(capsys, flag):
    with pytest.raises(SystemExit) as stopped:
        configs.main([NANO, flag])
    assert stopped.value.code == 2 and f'{flag} needs --out FILE' in capsys.readouterr().err


def test_paths_are_those_of_bundled_configs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(f'{NANO}.py').write_text('a config of that name here is not meant')
    path = str(find_config(NANO))
    assert {mmseg_arta.config_path(n) for n in (NANO, f'{NANO}.py', f'arta/{NANO}')} == {path}
    with pytest.raises(FileNotFoundError, match=f'near it: {NANO}'):
        mmseg_arta.config_path('arta-nano_segformer_camvid')
    with pytest.raises(FileNotFoundError):
        mmseg_arta.config_path(STOCK)
    assert find_config(STOCK).is_file()
    with pytest.raises(FileNotFoundError):
        find_config('arta-nano*')
