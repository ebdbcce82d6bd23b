"""A run of iterations that was interrupted goes on as if it had not been."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from mmseg_arta.datasets import NumberedInfiniteSampler, SeedByDraw
from mmseg_arta.datasets.draws import Draw
from mmseg_arta.datasets.toy import write_toy_dataset

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/arta/arta-nano_mask2former_1xb4-2k_camvid-256x256.py'
LENGTH = 4


@pytest.fixture(scope='module')
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_dataset(
        tmp_path_factory.mktemp('toy') / 'camvid', 'camvid', train=5, val=1, size=(64, 96)
    )


class Losses(Hook):
    """Keep the loss of every iteration, and what its images were."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, float, float]] = []

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        pixels = sum(float(image.double().sum()) for image in data_batch['inputs'])
        self.rows.append((runner.iter, outputs['loss'].item(), pixels))


def run(
    toy: Path, folder: Path, workers: int, resume: Path | None = None, plain: bool = False
) -> list[tuple[int, float, float]]:
    config = Config.fromfile(CONFIG)
    config.merge_from_dict(
        {
            'train_cfg.max_iters': LENGTH,
            'train_cfg.val_interval': 100,
            'train_dataloader.batch_size': 2,
            'train_dataloader.num_workers': workers,
            'train_dataloader.persistent_workers': False,
            'train_dataloader.dataset.data_root': str(toy),
            'val_dataloader.dataset.data_root': str(toy),
            'val_dataloader.num_workers': 0,
            'val_dataloader.persistent_workers': False,
            'test_dataloader.dataset.data_root': str(toy),
            'model.backbone.allocation': dict(
                type='RandomAllocation', schedule=(1.0, 0.5), _delete_=True
            ),
            'model.backbone.drop_path_rate': 0.5,
            'default_hooks.checkpoint.interval': 2,
            'default_hooks.checkpoint.max_keep_ckpts': -1,
            'default_hooks.checkpoint.save_best': None,
            'randomness.seed': 1,
            'work_dir': str(folder),
            'load_from': resume and str(resume),
            'resume': resume is not None,
            'log_level': 'ERROR',
        }
    )
    config.custom_hooks = [dict(type='AllocationProgressHook')]
    config.train_dataloader.dataset.pipeline[-4].crop_size = (64, 64)
    if plain:
        # As stock configs have it.
        config.train_dataloader.sampler.type = 'InfiniteSampler'
        config.default_hooks.pop('seeds')
    config.experiment_name = f'{folder.parent.name}-{folder.name}'
    DefaultScope.get_instance(config.experiment_name, scope_name='mmseg')
    runner = Runner.from_cfg(config)
    losses = Losses()
    runner.register_hook(losses, 'LOWEST')
    runner.train()
    return losses.rows


def weights(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location='cpu', weights_only=False)


@pytest.mark.parametrize('workers', [0, 2])
def test_losses_images_and_weights_are_the_uninterrupted_runs(
    toy: Path, tmp_path: Path, workers: int
) -> None:
    whole = run(toy, tmp_path / 'whole', workers)
    resumed = run(toy, tmp_path / 'resumed', workers, tmp_path / 'whole' / 'iter_2.pth')
    assert [row[0] for row in whole] == list(range(LENGTH))
    assert resumed == whole[2:]
    one, other = (weights(tmp_path / name / f'iter_{LENGTH}.pth') for name in ('whole', 'resumed'))
    for part in ('state_dict', 'optimizer'):
        torch.testing.assert_close(one[part], other[part], rtol=0, atol=0)


def test_with_the_stock_sampler_and_hooks_it_is_another_run(toy: Path, tmp_path: Path) -> None:
    whole = run(toy, tmp_path / 'whole', 2, plain=True)
    resumed = run(toy, tmp_path / 'resumed', 2, tmp_path / 'whole' / 'iter_2.pth', plain=True)
    assert [row[2] for row in resumed] != [row[2] for row in whole[2:]]


class Noise(Dataset):
    """A random number for every sample, after the seeds were set."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> float:
        SeedByDraw()(dict(sample_idx=index))
        return float(np.random.rand())


def noise(workers: int, skip: int = 0, seed: int = 3) -> list[float]:
    data = Noise()
    sampler = NumberedInfiniteSampler(data, seed=seed)
    if skip:
        sampler.skip(skip)
    batches = iter(DataLoader(data, 2, sampler=sampler, num_workers=workers))
    return [float(number) for _ in range(6) for number in next(batches)]


def test_every_draw_has_numbers_of_its_own_whichever_worker_makes_it() -> None:
    alone = noise(0)
    assert len(set(alone)) == len(alone)  # also of the same sample drawn again
    assert noise(2) == noise(3) == alone
    assert noise(2, skip=4)[:8] == alone[4:]
    assert noise(0, seed=4) != alone


@pytest.mark.parametrize('ranks', [1, 2, 3])
def test_processes_share_the_draws(monkeypatch: pytest.MonkeyPatch, ranks: int) -> None:
    found = []
    for rank in range(ranks):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda r=rank: (r, ranks))
        stream = iter(NumberedInfiniteSampler(Noise(), seed=5))
        found.append([next(stream) for _ in range(12 // ranks)])
    draws = sorted((draw for own in found for draw in own), key=lambda draw: draw.key)
    assert [draw.key for draw in draws] == [(5, number) for number in range(12)]
    monkeypatch.undo()
    stream = iter(NumberedInfiniteSampler(Noise(), seed=5))
    assert [int(draw) for draw in draws] == [int(next(stream)) for _ in range(12)]


def test_other_indices_seed_nothing() -> None:
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    for results in (dict(), dict(sample_idx=3), dict(sample_idx=Draw(3))):
        assert SeedByDraw()(copy.copy(results)) == results
    assert (np.random.get_state()[1] == before).all()
