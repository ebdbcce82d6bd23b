"""SegViT and DToP train as in the configs that their authors published."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2] / 'configs'
ADE_L, COCO_L = 'ade20k-640x640', 'coco-stuff10k-512x512'


@pytest.mark.parametrize(
    'name, iterations, power, decay, stride',
    [
        (f'segvit/segvit_vit-l16_8xb2-160k_{ADE_L}', 160_000, 1.0, 0.01, 608),
        (f'segvit/segvit-shrunk_vit-l16_8xb2-160k_{ADE_L}', 160_000, 1.0, 0.01, 608),
        (f'segvit/segvit_vit-l16_8xb2-80k_{COCO_L}', 80_000, 2.0, 0.02, 341),
        ('dtop/dtop-base_vit-b16_8xb2-160k_ade20k-512x512', 160_000, 0.9, 0.01, 341),
        (f'dtop/dtop-base_vit-l16_8xb2-160k_{ADE_L}', 160_000, 0.9, 0.01, 320),
        (f'dtop/dtop-base_vit-l16_8xb2-160k_{COCO_L}', 160_000, 0.9, 0.01, 341),
        (f'dtop/dtop_vit-l16_8xb2-40k_{ADE_L}', 40_000, 0.9, 0.01, 320),
        (f'dtop/dtop_vit-l16_8xb2-20k_{COCO_L}', 20_000, 0.9, 0.01, 341),
    ],
)
def test_recipes(name: str, iterations: int, power: float, decay: float, stride: int) -> None:
    config = Config.fromfile(ROOT / f'{name}.py')
    last = config.param_scheduler[-1]
    assert (config.train_cfg.max_iters, last.end, last.power) == (iterations, iterations, power)
    assert config.optim_wrapper.optimizer.weight_decay == decay
    assert tuple(config.model.test_cfg.stride) == (stride, stride)


def test_fine_tuning_starts_where_the_base_model_ends() -> None:
    for path in (ROOT / 'dtop').glob('dtop_*.py'):
        work_dir, name, file = Config.fromfile(path).load_from.split('/')
        base = Config.fromfile(ROOT / 'dtop' / f'{name}.py')
        assert (work_dir, file) == ('work_dirs', f'iter_{base.train_cfg.max_iters}.pth')
