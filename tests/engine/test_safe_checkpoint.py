"""A run that is killed while it writes checkpoints has one to go on from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner, find_latest_checkpoint
from torch import nn
from torch.utils.data import Dataset

from mmseg_arta.engine.hooks import safe_checkpoint


class Killed(BaseException):
    """In the place of the end of the process."""


class Numbers(Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return dict(inputs=torch.ones(3) * (int(index) + 1))


class Line(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        found = self.linear(inputs)
        return dict(loss=found.square().mean()) if mode == 'loss' else [found]


class Growing(Evaluator):
    """Finds the model better every time."""

    def __init__(self) -> None:
        super().__init__([])
        self.value = 0.0

    def evaluate(self, size: int) -> dict[str, float]:
        self.value += 1
        return dict(mIoU=self.value)


def runner(folder: Path, name: str, iterations: int = 6, resume: bool = False, **hook) -> Runner:
    loader = dict(
        batch_size=2,
        num_workers=0,
        collate_fn=dict(type='default_collate'),
        dataset=Numbers(),
    )
    checkpoint = dict(
        type='mmseg.SafeCheckpointHook', interval=2, by_epoch=False, max_keep_ckpts=1, **hook
    )
    return Runner(
        Line(),
        str(folder),
        train_dataloader=dict(**loader, sampler=dict(type='InfiniteSampler')),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        val_dataloader=dict(**loader, sampler=dict(type='DefaultSampler', shuffle=False)),
        val_cfg=dict(type='ValLoop'),
        val_evaluator=Growing(),
        default_hooks=dict(checkpoint=checkpoint),
        experiment_name=name,
        log_level='ERROR',
        resume=resume,
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob('*.pth'))


def test_as_many_are_kept_as_the_stock_hook_keeps(tmp_path: Path) -> None:
    runner(tmp_path, f'{tmp_path.name}-keep', save_best='mIoU').train()
    assert names(tmp_path) == ['best_mIoU_iter_6.pth', 'iter_6.pth']
    assert find_latest_checkpoint(str(tmp_path)) == str(tmp_path / 'iter_6.pth')
    assert not [path for path in tmp_path.iterdir() if path.name.startswith('.')]


@pytest.mark.parametrize('write', [1, 2, 3, 4, 5])
@pytest.mark.parametrize('when', ['before', 'half', 'renamed'])
def test_a_whole_checkpoint_is_left_whenever_the_process_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: int, when: str
) -> None:
    """Ends in the n-th write of a checkpoint: before it, with half of it, or right after it."""
    stock, count = safe_checkpoint.write_bytes, []

    def ending(path: Path, content: bytes) -> None:
        count.append(path)
        if len(count) < write:
            stock(path, content)
            return
        if when == 'half':
            # As an ended process leaves it: no clean-up.
            Path(path).with_name(f'.{Path(path).name}.part').write_bytes(content[:100])
        if when == 'renamed':
            stock(path, content)
        raise Killed

    monkeypatch.setattr(safe_checkpoint, 'write_bytes', ending)
    run = runner(tmp_path, f'{tmp_path.name}-killed', save_best='mIoU')
    with pytest.raises(Killed):
        run.train()
    whole = names(tmp_path)
    for name in whole:
        assert torch.load(tmp_path / name, weights_only=False)['state_dict']
    if write > 1:
        last = find_latest_checkpoint(str(tmp_path))
        assert last is not None and Path(last).name in whole
        # Written after the first checkpoint, and never gone since.
        if write > 2 or when == 'renamed':
            assert any(name.startswith('best') for name in whole)
    monkeypatch.setattr(safe_checkpoint, 'write_bytes', stock)
    again = runner(tmp_path, f'{tmp_path.name}-again', resume=write > 1, save_best='mIoU')
    again.train()
    assert again.iter == 6 and 'iter_6.pth' in names(tmp_path)
