from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.optim.scheduler import LinearLR, PolyLR
from mmengine.registry import init_default_scope
from torch import nn

import mmseg_arta  # noqa: F401  (registers)

SCHEDULES = Path(__file__).parents[2] / 'configs' / '_base_' / 'schedules'


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(2, 2)
        self.norm = nn.LayerNorm(2)
        self.allocators = nn.ModuleList([nn.Sequential(nn.Linear(2, 1), nn.LayerNorm(1))])


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.neck = nn.Conv2d(2, 2, 1)
        self.decode_head = nn.ModuleDict(
            dict(bn=nn.BatchNorm2d(2), gn=nn.GroupNorm(1, 2), query=nn.Embedding(3, 2))
        )


@pytest.fixture(autouse=True)
def mmseg_scope() -> None:
    init_default_scope('mmseg')


def groups(config: dict) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay by parameter name."""
    model = Model()
    optimizer = build_optim_wrapper(model, config).optimizer
    names = {id(param): name for name, param in model.named_parameters()}
    return {
        names[id(param)]: (group['lr'], group['weight_decay'])
        for group in optimizer.param_groups
        for param in group['params']
    }


@pytest.mark.parametrize('name', ['adamw_80k.py', 'adamw_90k.py'])
def test_recipe(name: str) -> None:
    found = groups(Config.fromfile(SCHEDULES / name).optim_wrapper)
    expected = {
        'backbone.proj.weight': (4e-5, 0.05),
        'backbone.proj.bias': (4e-5, 0.05),
        'backbone.norm.weight': (4e-5, 0),
        'backbone.norm.bias': (4e-5, 0),
        'backbone.allocators.0.0.weight': (4e-4, 0.05),
        'backbone.allocators.0.0.bias': (4e-4, 0.05),
        'backbone.allocators.0.1.weight': (4e-4, 0),
        'backbone.allocators.0.1.bias': (4e-4, 0),
        'neck.weight': (4e-4, 0.05),
        'neck.bias': (4e-4, 0.05),
        'decode_head.bn.weight': (4e-4, 0),
        'decode_head.bn.bias': (4e-4, 0),
        'decode_head.gn.weight': (4e-4, 0),
        'decode_head.gn.bias': (4e-4, 0),
        'decode_head.query.weight': (4e-4, 0),
    }
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value), key


@pytest.mark.parametrize('name', ['adamw_80k.py', 'adamw_90k.py'])
def test_the_log_says_what_is_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    for module in (
        'mmengine.optim.optimizer.default_constructor',
        'mmseg_arta.engine.param_groups',
    ):
        monkeypatch.setattr(f'{module}.print_log', lambda line, **_: lines.append(line))
    found = groups(Config.fromfile(SCHEDULES / name).optim_wrapper)
    logged = [line.split(' -- ')[1].split(':') for line in lines if ':weight_decay=' in line]
    decays = {key: float(what.split('=')[1]) for key, what in logged}
    assert len(logged) == len(decays)
    assert {'backbone.norm.weight', 'decode_head.query.weight'} <= decays.keys()
    for key, (_, decay) in found.items():
        assert decays.get(key, 0.05) == pytest.approx(decay), key


def test_a_stated_decay_wins() -> None:
    keys = {'backbone.norm': dict(decay_mult=0.5)}
    config = dict(
        type='OptimWrapper',
        constructor='NormFreeDecayConstructor',
        optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.2),
        paramwise_cfg=dict(custom_keys=keys, norm_decay_mult=0.0),
    )
    found = groups(config)
    assert found['backbone.norm.weight'][1] == pytest.approx(0.1)
    assert found['decode_head.bn.weight'][1] == 0
    # without a multiplier for embeddings they decay as the rest
    assert found['decode_head.query.weight'][1] == pytest.approx(0.2)


def test_parameters_with_equal_settings_share_a_group() -> None:
    config = Config.fromfile(SCHEDULES / 'adamw_80k.py').optim_wrapper
    model = Model()
    optimizer = build_optim_wrapper(model, config).optimizer
    # Backbone, allocators, the rest; with decay and without.
    assert [len(group['params']) for group in optimizer.param_groups] == [2, 2, 2, 2, 2, 5]
    held = [param for group in optimizer.param_groups for param in group['params']]
    assert {id(param) for param in held} == {id(param) for param in model.parameters()}
    assert len(held) == len(list(model.parameters()))
    assert optimizer.param_groups[0]['params'][0] is model.backbone.proj.weight


def test_groups_step_as_single_parameters_do() -> None:
    config = Config.fromfile(SCHEDULES / 'adamw_80k.py').optim_wrapper
    config.paramwise_cfg.pop('embed_decay_mult')
    models = [Model(), Model()]
    models[1].load_state_dict(models[0].state_dict())
    # No norm has a learning rate of its own here, so both constructors mean the same.
    config.paramwise_cfg.custom_keys = dict(neck=dict(lr_mult=0.1))
    kinds = ('NormFreeDecayConstructor', 'DefaultOptimWrapperConstructor')
    for model, kind in zip(models, kinds, strict=True):
        optimizer = build_optim_wrapper(model, dict(config, constructor=kind)).optimizer
        generator = torch.Generator().manual_seed(0)
        for _ in range(3):
            for param in model.parameters():
                param.grad = torch.randn(param.shape, generator=generator)
            optimizer.step()
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(('name', 'total'), [('adamw_80k.py', 80000), ('adamw_90k.py', 90000)])
def test_learning_rate_is_warm_up_times_polynomial(name: str, total: int) -> None:
    config = Config.fromfile(SCHEDULES / name)
    assert config.train_cfg.max_iters == total == config.param_scheduler[1].end
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    kinds = dict(LinearLR=LinearLR, PolyLR=PolyLR)
    schedulers = []
    for settings in config.param_scheduler:
        settings = dict(settings)
        schedulers.append(kinds[settings.pop('type')](optimizer, **settings))
    rates = []
    for _ in range(5000):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    for step in (0, 1000, 2000, 2600, 4999):
        warm_up = min(1.0, 1e-3 + (1 - 1e-3) * step / 2500)
        assert rates[step] == pytest.approx(warm_up * (1 - step / total) ** 0.9, rel=2e-3)
