"""Training in epochs: the share of tokens, its hook, and runs that were interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip('mmseg_arta.pretrain', exc_type=ImportError)

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmseg_arta.datasets.draws import seed_all
from mmseg_arta.datasets.toy import write_toy_dataset
from tests.builders import NANO

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 4


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
    return write_toy_dataset(
        tmp_path_factory.mktemp('toy') / 'imagenet', 'imagenet', train=8, val=2, size=(72, 80)
    )


class Shares(Hook):
    """Keep the share of tokens and the loss of every iteration."""

    def __init__(self):
        self.rows = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        policy = runner.model.backbone.policy
        self.rows.append((runner.iter, policy.share(True), outputs['loss'].item()))


def run(toy, work_dir, name='arta-tiny', resume=None, workers=0, seed=0, hooks=None):
    """Train the smallest ARTA by a bundled config; the runner and what ``Shares`` kept."""
    (path,) = [
        path for path in (ROOT / 'configs/imagenet').rglob(f'{name}_*.py') if 'in1k' in path.name
    ]
    config = Config.fromfile(path)
    pipeline = config.train_dataloader.dataset.pipeline
    pipeline[1].scale = 64
    config.merge_from_dict(
        {
            'model.backbone.arch': dict(NANO, _delete_=True),
            'model.head.in_channels': 32,
            'train_cfg.max_epochs': EPOCHS,
            # Much moves in few iterations.
            'param_scheduler': [],
            'train_dataloader.batch_size': 4,
            'train_dataloader.num_workers': workers,
            'train_dataloader.dataset.data_root': str(toy),
            'val_dataloader.num_workers': 0,
            'val_dataloader.dataset.data_root': str(toy),
            'test_dataloader.dataset.data_root': str(toy),
            'default_hooks.checkpoint.interval': 1,
            'default_hooks.checkpoint.max_keep_ckpts': -1,
            'default_hooks.logger.interval': 1,
            'randomness.seed': seed,
            'work_dir': str(work_dir),
            'load_from': resume and str(resume),
            'resume': resume is not None,
            'log_level': 'WARNING',
        }
    )
    if hooks is not None:
        config.custom_hooks = hooks
    # A runner by itself, whatever other tests left.
    config.experiment_name = f'{work_dir.parent.name}-{work_dir.name}'
    DefaultScope.get_instance(config.experiment_name, scope_name='mmpretrain')
    runner = Runner.from_cfg(config)
    shares = Shares()
    runner.register_hook(shares, 'LOWEST')
    runner.train()
    return runner, shares.rows


def state(path):
    return torch.load(path, map_location='cpu', weights_only=False)


def same(one, other):
    """Whether two checkpoints' parts hold bit-equal tensors and equal values."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize('workers', [0, 1])
def test_a_resumed_run_is_the_uninterrupted_one(toy, tmp_path, workers):
    _, whole = run(toy, tmp_path / 'whole', workers=workers)
    half = tmp_path / 'whole' / f'epoch_{EPOCHS // 2}.pth'
    _, resumed = run(toy, tmp_path / 'resumed', resume=half, workers=workers)
    # Two iterations an epoch; the share falls from the first to the last of them.
    assert [row[0] for row in whole] == list(range(2 * EPOCHS))
    assert [row[1] for row in whole] == pytest.approx(
        [1.0 - 0.5 * i / (2 * EPOCHS - 1) for i in range(2 * EPOCHS)], abs=1e-12
    )
    assert resumed == whole[EPOCHS:]
    one, other = (state(tmp_path / run / f'epoch_{EPOCHS}.pth') for run in ('whole', 'resumed'))
    assert same(one['state_dict'], other['state_dict'])
    assert same(one['optimizer'], other['optimizer'])


def test_without_the_seeds_it_is_another_run(toy, tmp_path):
    hooks = [dict(type='AllocationProgressHook')]
    _, whole = run(toy, tmp_path / 'whole', hooks=hooks)
    half = tmp_path / 'whole' / f'epoch_{EPOCHS // 2}.pth'
    _, resumed = run(toy, tmp_path / 'resumed', resume=half, hooks=hooks)
    # The share goes on all the same.
    assert [row[:2] for row in resumed] == [row[:2] for row in whole[EPOCHS:]]
    assert resumed != whole[EPOCHS:]


def test_the_seed_decides(toy, tmp_path):
    _, first = run(toy, tmp_path / 'first', seed=3)
    _, again = run(toy, tmp_path / 'again', seed=3)
    _, other = run(toy, tmp_path / 'other', seed=4)
    assert first == again
    assert all(one[2] != two[2] for one, two in zip(first, other, strict=True))


def test_all_tokens_throughout(toy, tmp_path):
    runner, rows = run(toy, tmp_path / 'full', name='arta-tiny-full')
    assert {row[1] for row in rows} == {1.0}
    assert runner.model.backbone.policy.share(False) == 1.0


def test_a_schedule_that_nothing_follows_is_refused(toy, tmp_path):
    runner, _ = run(toy, tmp_path / 'run')
    hook = next(h for h in runner.hooks if type(h).__name__ == 'AllocationProgressHook')
    runner.model.backbone.policy = None
    with pytest.raises(ValueError, match='no allocation policy with a schedule, found None'):
        hook.before_train(runner)


def test_seeds_of_processes_and_iterations_differ():
    draws = set()
    for numbers in ((0, 1, 0, 0), (0, 1, 1, 0), (0, 1, 0, 1), (1, 1, 0, 0), (0, 2, 0, 0)):
        seed_all(*numbers)
        draws.add(torch.rand(1).item())
        seed_all(*numbers)
        assert torch.rand(1).item() in draws
    assert len(draws) == 5
