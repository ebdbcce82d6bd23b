"""The league as a command: a small one on toy data from end to end, and what is refused."""

from __future__ import annotations

import json
import os
import re
import runpy
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks import league
from mmseg_arta import configs
from mmseg_arta.analysis.league import run as scheduler
from mmseg_arta.analysis.league.records import STAGES
from mmseg_arta.datasets.toy import write_toy_dataset
from mmseg_arta.engine.hooks import SafeCheckpointHook
from tests import forked
from tests.pages import ROOT, fences

NANO = 'arta-nano_segformer_1xb4-2k_camvid-256x256'
B0 = 'segformer_mit-b0_1xb4-2k_camvid-256x256'
OWN = 'my_config'


@pytest.fixture(scope='module')
def camvid(tmp_path_factory):
    root = tmp_path_factory.mktemp('toy') / 'camvid'
    return write_toy_dataset(str(root), 'camvid', train=4, val=2, size=(64, 96), seed=0)


@pytest.fixture
def mine(camvid, tmp_path, monkeypatch):
    """The user's folder of docs/league.md: data, the file for all configs, and one of their own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'my_data').symlink_to(camvid)
    text = (ROOT / 'docs' / 'league.md').read_text()
    (block,) = (block for kind, block in fences(text) if kind == 'python')
    assert block.startswith('# my_data.py\n')
    (tmp_path / 'my_data.py').write_text(block)
    assert configs.main([B0, '--out', 'my_config.py']) == 0
    return [NANO, 'my_config.py', '--common', 'my_data.py']


class Forked(scheduler.Process):
    """Runs a command in a copy of this process."""

    commands: list[list[str]] = []
    killed = ''

    def __init__(self, command, log, environment, core=None, kept_open=()):
        self.commands.append([Path(command[0]).name, *command[1:]])
        self.started, self.peak, self._code = time.monotonic(), None, None
        self.begin = log.stat().st_size if log.exists() else 0

        class Child:
            returncode = None

        self._process = Child()
        with log.open('ab') as out:
            self._process.pid = forked.start(lambda: self._work(command), out)

    def _work(self, command):
        if command[1] == '-m':
            sys.argv = command[2:]
            runpy.run_module(command[2], run_name='__main__')
            return
        if self.killed and command[1] == 'train' and self.killed in command[3]:
            # After the first checkpoint, as a machine that is shut down would.
            real = SafeCheckpointHook.after_train_iter

            def after(*args, **options):
                real(*args, **options)
                os.kill(os.getpid(), signal.SIGTERM)

            SafeCheckpointHook.after_train_iter = after
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        forked.run_mim(command[1:])


@pytest.mark.skipif(not hasattr(os, 'wait4'), reason='needs fork')
def test_a_small_league(mine, tmp_path, capsys, monkeypatch):
    results, work_dir = tmp_path / 'league.json', tmp_path / 'work'
    page = tmp_path / 'page.md'
    page.write_text('<!-- league table -->\n<!-- league table end -->\n')
    places = ['--work-dir', str(work_dir), '--results', str(results), '--docs', str(page)]
    call = [*mine, *places, '--time-steps', '0']
    quick = [*call, '--pictures', '0']
    monkeypatch.setattr(Forked, 'commands', [])
    monkeypatch.setattr(Forked, 'killed', NANO)
    monkeypatch.setattr(scheduler, 'Process', Forked)

    # A training is killed; the other config goes through all stages.
    assert league.main(quick) == 1
    out = capsys.readouterr().out
    assert f'{NANO}, seed 0: interrupted; a later call goes on; left: not known yet' in out
    assert re.search(rf'\[1/2\] {OWN}, seed 0: mIoU \d+\.\d\d, in windows \d+\.\d\d; took', out)
    nano = work_dir / NANO / 'seed0'
    assert (nano / 'train' / 'last_checkpoint').read_text().endswith('iter_1.pth')
    assert not (nano / 'train.json').exists()
    assert [row['config'] for row in json.loads(results.read_text())['runs']] == [OWN]

    # Meanwhile: what is done, and what is left.
    assert league.main([*quick, '--list']) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-3] == f'{NANO}, seed 0: train left, whole left, windows left, measure left'
    assert out[-2] == f'{OWN}, seed 0: train done, whole done, windows done, measure done'
    assert out[-1].startswith('left: about ')

    # Only what is left is done, the training from its checkpoint.
    Forked.commands.clear()
    monkeypatch.setattr(Forked, 'killed', '')
    assert league.main([*call, '--pictures', '2']) == 0
    assert [command[1] for command in Forked.commands] == ['train', 'test', 'test', '-m']
    assert '--resume' in Forked.commands[0]
    log = (nano / 'train.log').read_text()
    assert re.findall(r'Iter\(train\) \[ *(\d+)/', log) == ['1', '2']
    assert 'resumed epoch: 0, iter: 1' in log and log.count('\n$ ') == 1 and log[:2] == '$ '

    found = json.loads(results.read_text())
    rows = {row['config']: row for row in found['runs']}
    assert set(rows) == {NANO, OWN} and all(row['complete'] for row in rows.values())
    for row in rows.values():
        assert set(row['seconds']) == set(STAGES)
        for stage in ('whole', 'windows'):
            near = row['measure']['boundaries'][stage]
            # Two ways to the same: of the stock metric, and of the predictions that it wrote.
            assert near['mIoU'] == pytest.approx(row[stage]['mIoU'], abs=0.006)
            assert set(near['bands']) == {'2', '4', '8'} and near['boundary_iou'] >= 0
            assert row['measure']['operations'][stage]['images'] == 2
        assert row['train']['iteration_seconds'] > 0
    assert rows[NANO]['train']['memory_bytes'] > 2**28
    cost = {key: row['measure']['operations'] for key, row in rows.items()}
    # Windows of 64x64 px, two to an image of 64x96 px, cost more; only ARTA's depend on the image.
    assert all(one['windows']['gmacs'] > one['whole']['gmacs'] > 0 for one in cost.values())
    assert cost[OWN]['whole']['gmacs_std'] == 0 < cost[NANO]['whole']['gmacs_std']
    assert str(tmp_path) not in results.read_text() and found['machine']['device'] == 'cpu'

    table = (tmp_path / 'league.md').read_text()
    assert '| arta-nano segformer |' in table and '| my config |' in table
    assert table in page.read_text()
    with Image.open(tmp_path / 'league_pictures.png') as sheet:
        assert sheet.size[0] > 4 * 280
    assert (tmp_path / 'league.png').stat().st_size > 5000

    # A second call does nothing; a report needs no configs.
    monkeypatch.setattr(scheduler, 'Process', None)
    before = results.read_text()
    assert league.main(quick) == 0 and results.read_text() == before
    for name in ('league.md', 'league.png', 'league_pictures.png'):
        (tmp_path / name).unlink()
    assert (
        league.main(['--report', '--pictures', '1', *places]) == 0 and results.read_text() == before
    )
    assert sorted(path.name for path in tmp_path.glob('league*')) == [
        'league.json',
        'league.md',
        'league.png',
        'league_pictures.png',
    ]

    # A config that has changed is refused, and nothing is touched.
    capsys.readouterr()
    assert league.main([*quick, '--cfg-options', 'train_cfg.max_iters=3']) == 2
    error = capsys.readouterr().err
    assert f'config {NANO} has changed since its runs in' in error and error.count('\n') == 1
    assert results.read_text() == before


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ([], 'name at least one config (--report needs none)'),
        (['--report'], 'nothing to report: there is neither --work-dir work_dirs/league nor'),
        (['no-such-config'], "config 'no-such-config' is neither a file nor the name of one"),
        ([B0, '--sedes', '1'], 'unrecognized arguments: --sedes'),
        ([B0, '--seeds', 'one'], "--seeds takes integers from 0 to 4294967295, found 'one'"),
        ([B0, '--jobs', '0'], '--jobs must be at least 1, found 0'),
        ([B0, '--data', 'nowhere'], '--data nowhere: there is no such folder'),
        ([B0], 'the train set is not there: nothing in'),
        ([B0, '--device', 'tpu'], "--device must be 'cpu', 'cuda' or 'cuda:N', found 'tpu'"),
        ([B0, '--results', 'x.txt'], '--results x.txt: expected a name that ends in .json'),
        ([B0, '--results', 'no/x.json'], '--results no/x.json: the folder'),
        ([B0, '--sheet', 'x.jpg'], '--sheet x.jpg: expected a name that ends in .png'),
        ([B0, '--pictures', '-1'], '--pictures must be at least 0, found -1'),
        ([B0, '--time-steps', '-1'], '--time-steps must be at least 0, found -1'),
        ([B0, '--docs', 'no.md'], 'no.md'),
        ([B0, '--common', 'no.py'], '--common no.py: there is no such file'),
        (['model.x=1', B0], 'the setting model.x=1 stands before any config'),
    ],
    ids=lambda value: ' '.join(value)[:40] if isinstance(value, list) else '',
)
def test_bad_input_is_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        status = league.main(words)
    except SystemExit as stopped:
        status = stopped.code
    error = capsys.readouterr().err
    assert status == 2 and error.startswith('league: error: ') and message in error
    assert error.count('\n') == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_gpu_that_is_not_there(camvid, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert league.main([B0, '--device', 'cuda', '--data', str(camvid)]) == 2
    assert '--device cuda: PyTorch finds no CUDA device here' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_league_that_is_asked_to_end_says_so(camvid, tmp_path, monkeypatch, capsys):
    def play(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(league, 'play', play)
    assert league.main([B0, '--data', str(camvid), '--work-dir', str(tmp_path / 'work')]) == 130
    assert 'league: stopped; the same command goes on' in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
