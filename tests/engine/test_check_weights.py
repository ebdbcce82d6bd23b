"""Checkpoints of other models, parts of checkpoints, and weights that are no numbers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn

from mmseg_arta.datasets.toy import write_toy_dataset
from mmseg_arta.engine import CheckWeightsHook

ROOT = Path(__file__).resolve().parents[2]
NANO = ROOT / 'configs/arta/arta-nano_segformer_1xb4-2k_camvid-256x256.py'
STOCK = ROOT / 'configs/segformer/segformer_mit-b0_1xb4-2k_camvid-256x256.py'


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def check(weights: Any, allow: Any = (), training: bool = False, resume: bool = False) -> None:
    loop = SimpleNamespace()
    if training:
        from mmengine.runner import IterBasedTrainLoop

        loop = IterBasedTrainLoop.__new__(IterBasedTrainLoop)
    runner = SimpleNamespace(
        model=model(), _load_from='some.pth', _train_loop=loop if training else None, _resume=resume
    )
    CheckWeightsHook(allow).after_load_checkpoint(runner, dict(state_dict=weights))


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in model().state_dict().items() if name != key}


def test_whole_checkpoints_pass() -> None:
    check(model().state_dict())
    check({f'module.{name}': value for name, value in model().state_dict().items()})
    # Counters that older files lack.
    check(without('1.num_batches_tracked'), allow=r'.*num_batches_tracked')


@pytest.mark.parametrize(('training', 'resume'), [(False, False), (True, True)])
def test_parts_are_refused_unless_allowed(training: bool, resume: bool) -> None:
    with pytest.raises(ValueError, match=r'some.pth is not of this Sequential: 0.bias is missing'):
        check(without('0.bias'), training=training, resume=resume)
    check(without('0.bias'), [r'0\.'], training, resume)
    with pytest.raises(ValueError, match=r'2.weight is left over'):
        check(model().state_dict() | {'2.weight': torch.ones(1)}, (), training, resume)
    other = model().state_dict() | {'0.weight': torch.ones(5, 3)}
    with pytest.raises(ValueError, match=r'some.pth is not of this Sequential.*size mismatch'):
        check(other, (), training, resume)


def test_training_may_start_from_a_part() -> None:
    check(without('0.bias'), training=True)
    with pytest.raises(ValueError, match=r'has no weight of Sequential: expected keys such as'):
        check({'backbone.0.weight': torch.ones(1)}, training=True)


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_no_numbers(training: bool, value: float) -> None:
    with pytest.raises(ValueError, match=r'some.pth: 0.bias is not finite'):
        check(model().state_dict() | {'0.bias': torch.full((4,), value)}, training=training)


def test_what_is_no_checkpoint() -> None:
    with pytest.raises(ValueError, match=r'some.pth: expected weights by key, found int'):
        check(3)


def test_testing_another_model_stops(tmp_path: Path) -> None:
    """By a bundled config, as ``mim test`` does."""
    data = write_toy_dataset(tmp_path / 'camvid', 'camvid', train=1, val=1, size=(64, 96))
    other = Config.fromfile(STOCK)
    DefaultScope.get_instance('other', scope_name='mmseg')
    from mmseg.registry import MODELS

    torch.save(
        dict(state_dict=MODELS.build(other.model).state_dict()), tmp_path / 'of_segformer.pth'
    )
    config = Config.fromfile(NANO)
    config.merge_from_dict(
        {
            'test_dataloader.dataset.data_root': str(data),
            'test_dataloader.num_workers': 0,
            'test_dataloader.persistent_workers': False,
            'work_dir': str(tmp_path / 'run'),
            'load_from': str(tmp_path / 'of_segformer.pth'),
            'experiment_name': tmp_path.name,
            'log_level': 'ERROR',
        }
    )
    DefaultScope.get_instance(tmp_path.name, scope_name='mmseg')
    with pytest.raises(ValueError, match=r'of_segformer.pth is not of this EncoderDecoder: '):
        Runner.from_cfg(config).test()


def test_patterns_are_checked_when_built():
    with pytest.raises(
        ValueError, match=r"allow must be a list of regular expressions .*found '\('"
    ):
        CheckWeightsHook(allow=['('])
