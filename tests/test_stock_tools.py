"""Running MMSegmentation's own tools with this package registered."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mmseg_arta import _stock_tools
from mmseg_arta._stock_tools import join_processes_on_cpu, run_stock_tool, stock_tool
from tests.processes import python_environment


@pytest.mark.parametrize('name', ['train.py', 'test.py'])
def test_installed_mmseg_has_the_tool(name):
    assert stock_tool(name).name == name


@pytest.mark.parametrize('folder', ['mmseg/.mim/tools', 'tools'], ids=['installed', 'checkout'])
def test_tool_is_found(tmp_path, folder):
    tool = tmp_path / folder / 'train.py'
    tool.parent.mkdir(parents=True)
    tool.touch()
    assert stock_tool('train.py', tmp_path / 'mmseg') == tool


def test_missing_tool_ends_with_a_message(tmp_path, monkeypatch):
    monkeypatch.setattr(_stock_tools.mmseg, '__file__', str(tmp_path / 'mmseg' / '__init__.py'))
    monkeypatch.setattr(sys, 'argv', ['tools/train.py'])
    with pytest.raises(SystemExit, match=r'tools/train\.py was not found.*\.mim'):
        run_stock_tool('train.py')


def test_options_reach_the_tool(tmp_path, monkeypatch, capsys):
    tool = tmp_path / 'train.py'
    tool.write_text('import sys\nassert __name__ == "__main__"\nprint(sys.argv[1:])')
    monkeypatch.setattr(_stock_tools, 'stock_tool', lambda name: tmp_path / name)
    monkeypatch.setattr(sys, 'argv', ['tools/train.py', 'config.py', '--work-dir', 'w', '--amp'])
    run_stock_tool('train.py')
    assert capsys.readouterr().out.strip() == "['config.py', '--work-dir', 'w', '--amp']"


@pytest.mark.parametrize('missing', [False, True], ids=['installed', 'missing'])
def test_configs_of_mmpretrain_go_to_its_own_tools(tmp_path, monkeypatch, capsys, missing):
    config = tmp_path / 'config.py'
    config.write_text("default_scope = 'mmpretrain'\n")
    tool = tmp_path / 'mmpretrain' / '.mim' / 'tools' / 'train.py'
    tool.parent.mkdir(parents=True)
    tool.write_text('print("of mmpretrain")')
    codebase = ModuleType('mmpretrain')
    codebase.__file__ = str(tmp_path / 'mmpretrain' / '__init__.py')
    monkeypatch.setitem(sys.modules, 'mmpretrain', codebase)
    monkeypatch.setitem(sys.modules, 'mmseg_arta.pretrain', None if missing else codebase)
    monkeypatch.setattr(sys, 'argv', ['tools/train.py', str(config), '--amp'])
    if missing:
        with pytest.raises(SystemExit, match=r'mmseg_arta\.pretrain'):
            run_stock_tool('train.py')
    else:
        run_stock_tool('train.py')
        assert capsys.readouterr().out == 'of mmpretrain\n'


@pytest.mark.parametrize(
    ('arguments', 'rank', 'device', 'joined'),
    [
        (['c.py', '--launcher', 'pytorch'], '0', 'cpu', ['gloo']),
        (['c.py', '--launcher=pytorch', '--amp'], '1', 'cpu', ['gloo']),
        (['c.py', '--launcher', 'none'], '0', 'cpu', []),
        (['c.py', '--launcher', 'pytorch'], '0', 'cuda', []),
        (['c.py', '--launcher', 'pytorch'], None, 'cpu', []),
        (['c.py'], '0', 'cpu', []),
    ],
    ids=['cpu', 'equals-sign', 'no-launcher', 'gpu', 'not-launched', 'default'],
)
def test_processes_are_joined_only_on_the_cpu(monkeypatch, arguments, rank, device, joined):
    calls = []
    monkeypatch.setattr(_stock_tools.torch.distributed, 'init_process_group', calls.append)
    monkeypatch.setattr(_stock_tools, 'get_device', lambda: device)
    monkeypatch.delenv('RANK', raising=False)
    if rank is not None:
        monkeypatch.setenv('RANK', rank)
    more = join_processes_on_cpu(arguments)
    assert calls == joined
    wrapper = ['--cfg-options', 'model_wrapper_cfg.type=CPUDistributedDataParallel']
    assert more == (wrapper if joined else [])


def test_a_wrapper_of_ones_own_stays(monkeypatch):
    monkeypatch.setattr(_stock_tools.torch.distributed, 'init_process_group', lambda name: None)
    monkeypatch.setattr(_stock_tools, 'get_device', lambda: 'cpu')
    monkeypatch.setenv('RANK', '0')
    own = ['--launcher', 'pytorch', '--cfg-options', 'model_wrapper_cfg.type=Mine']
    assert join_processes_on_cpu(own) == []


# A tool that ends with a model, its wrapper and an optimiser in a cycle.
TOOL = """
import torch
from torch import nn


class Runner:
    def __init__(self):
        self.model = nn.parallel.DistributedDataParallel(nn.Linear(3, 3))
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.itself = self
        self.model(torch.ones(2, 3)).sum().backward()


Runner()
"""
LEAVES = """
import sys
from pathlib import Path
from mmseg_arta import _stock_tools
tool = Path(sys.argv[1])
_stock_tools.stock_tool = lambda name: tool
sys.argv = ['train.py', '--launcher', 'pytorch']
_stock_tools.run_stock_tool('train.py')
tasks = Path('/proc/self/task').glob('*/comm')
print([one for one in (task.read_text().strip() for task in tasks) if 'gloo' in one])
"""


@pytest.mark.skipif(not Path('/proc/self/task').is_dir(), reason='threads are named by Linux')
def test_no_thread_of_the_group_is_left(tmp_path):
    tool = tmp_path / 'train.py'
    tool.write_text(TOOL)
    meeting = dict(RANK='0', WORLD_SIZE='1', MASTER_ADDR='127.0.0.1', MASTER_PORT='0')
    done = subprocess.run(
        [sys.executable, '-c', LEAVES, str(tool)],
        env=python_environment() | meeting | dict(CUDA_VISIBLE_DEVICES='-1'),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.splitlines()[-1] == '[]'
