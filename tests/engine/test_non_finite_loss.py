"""Steps without a finite loss: skipped by the scaler, and the end of a run that stays so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import Dataset

from mmseg_arta.engine import NonFiniteLossHook


class Sample:
    def __init__(self, number: int) -> None:
        self.img_path = f'{number}.png'


class Numbers(Dataset):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(inputs=torch.ones(3), data_samples=Sample(index))


class Model(BaseModel):
    """Divides by zero at some iterations."""

    def __init__(self, bad: range, last: bool = False) -> None:
        super().__init__(BaseDataPreprocessor())
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 1)
        self.bad, self.last, self.step = bad, last, 0

    def forward(self, inputs: list[Tensor], data_samples: Any = None, mode: str = 'tensor') -> Any:
        x = torch.stack(list(inputs))
        if self.step in self.bad and not self.last:
            x = x / 0
        self.step += 1
        found = self.second(self.first(x)).mean()
        return dict(loss=found / 0 if self.last and self.step - 1 in self.bad else found)


def kept_finite(model: Model) -> Model:
    """Its weights stay as they are, as behind a scaler that skips the steps."""
    for parameter in model.parameters():
        parameter.register_hook(torch.zeros_like)
    return model


def train(folder: Path, model: Model, hook: dict[str, Any]) -> Runner:
    runner = Runner(
        model,
        str(folder),
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            collate_fn=dict(type='pseudo_collate'),
            dataset=Numbers(),
            sampler=dict(type='InfiniteSampler', shuffle=False),
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=20),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[dict(type='mmseg.NonFiniteLossHook', **hook)],
        default_hooks=dict(checkpoint=None, logger=None),
        experiment_name=folder.name,
        log_level='ERROR',
    )
    runner.train()
    return runner


def test_a_few_steps_are_let_pass(tmp_path: Path) -> None:
    runner = train(tmp_path, kept_finite(Model(range(3, 7))), dict(patience=5, interval=1))
    assert runner.iter == 20


@pytest.mark.parametrize('interval', [1, 4])
def test_many_in_a_row_end_the_run_where_it_began(tmp_path: Path, interval: int) -> None:
    with pytest.raises(FloatingPointError) as caught:
        train(tmp_path, Model(range(3, 1000), last=True), dict(patience=5, interval=interval))
    text = str(caught.value)
    # Iterations as the log counts them, from 1.
    assert 'since iteration 4' in text and 'images there: 6.png, 7.png' in text
    assert 'Weights are not finite by now' in text or 'the loss itself' in text


def test_the_first_module_is_named(tmp_path: Path) -> None:
    model = kept_finite(Model(range(3, 1000)))
    with pytest.raises(FloatingPointError, match=r'not finite: first \(Linear\)'):
        train(tmp_path, model, dict(patience=5, interval=1))


@pytest.mark.parametrize('option', ['patience', 'interval'])
def test_options(option: str) -> None:
    with pytest.raises(ValueError, match=f'NonFiniteLossHook.{option} must be at least 1, found 0'):
        NonFiniteLossHook(**{option: 0})
