"""Learning rates that decay by layer: the layers of plain transformers are those of stock ones."""

from __future__ import annotations

from typing import Any

import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.engine.optimizers.layer_decay_optimizer_constructor import get_layer_id_for_vit
from mmseg.registry import MODELS
from torch import nn

from tests.option_table import ATM, HALTING, STEP, VIT

DEPTH = VIT['num_layers']


def segmentor(**backbone: Any) -> nn.Module:
    init_default_scope('mmseg')
    options = STEP | backbone
    head = dict(type='HaltingATMHead' if 'halting' in backbone else 'ATMHead', **ATM)
    return MODELS.build(
        dict(
            type='EncoderDecoder',
            backbone=dict(type='StepViT', **options),
            decode_head=head,
            train_cfg=dict(),
            test_cfg=dict(mode='whole'),
        )
    )


def groups(model: nn.Module, constructor: str, **options: Any) -> dict[str, dict[str, Any]]:
    """Group of every parameter by its name."""
    optimizer = dict(type='AdamW', lr=1e-3, weight_decay=0.05)
    config = dict(optimizer=optimizer, constructor=constructor, paramwise_cfg=options)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = build_optim_wrapper(model, config).optimizer.param_groups
    return {names[id(one)]: group for group in found for one in group['params']}


@pytest.mark.parametrize('rate', ['decay_rate', 'layer_decay_rate'])
@pytest.mark.parametrize('backbone', [{}, dict(halting=HALTING, out_indices=(DEPTH - 1,))])
def test_layers_are_those_of_stock_transformers(backbone, rate):
    model = segmentor(**backbone)
    found = groups(model, 'LayerDecayConstructor', **{rate: 0.5})
    assert set(found) == {name for name, _ in model.named_parameters()}
    seen = set()
    for name, group in found.items():
        layer = get_layer_id_for_vit(name, DEPTH + 2)
        seen.add(layer)
        assert group['lr'] == pytest.approx(1e-3 * 0.5 ** (DEPTH + 1 - layer)), name
        assert group['lr_scale'] == pytest.approx(group['lr'] / 1e-3)
        flat = dict(model.named_parameters())[name].ndim == 1 or name.endswith('pos_embed')
        assert group['weight_decay'] == (0 if flat else 0.05), name
    assert seen == set(range(DEPTH + 2))
    heads = [name for name in found if name.startswith(('decode_head.', 'backbone.halting.'))]
    assert heads and all(found[name]['lr'] == 1e-3 for name in heads)


def test_blocks_that_are_left_out_do_not_count():
    backbone = MODELS.build(dict(type='StepViT', **dict(STEP, out_indices=(DEPTH - 2,))))
    assert backbone.get_layer_depth('pos_embed') == (0, DEPTH + 1)
    last = f'layers.{DEPTH - 2}.ln1.weight'
    assert last in backbone.state_dict()
    assert backbone.get_layer_depth(last) == (DEPTH - 1, DEPTH + 1)


def test_other_backbones_are_left_to_the_stock_constructor():
    model = nn.Module()
    model.backbone = type('MAE', (nn.Module,), {})()
    model.backbone.layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    model.decode_head = nn.Linear(2, 2)
    init_default_scope('mmseg')
    options = dict(num_layers=2, decay_rate=0.5)
    assert {
        name: group['lr']
        for name, group in groups(model, 'LayerDecayConstructor', **options).items()
    } == {
        name: group['lr']
        for name, group in groups(model, 'LearningRateDecayOptimizerConstructor', **options).items()
    }


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({}, r'paramwise_cfg.decay_rate must be a finite number in \(0, 1\], found None'),
        (dict(decay_rate=0), r'decay_rate must be a finite number in \(0, 1\], found 0'),
        (dict(decay_rate=0.5, num_layers=12), f'num_layers is 12, but the backbone has {DEPTH}'),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        groups(segmentor(), 'LayerDecayConstructor', **options)


def test_the_constructor_of_mmpretrain_knows_the_layers():
    pytest.importorskip('mmpretrain')
    from mmengine.registry import DefaultScope
    from mmpretrain.registry import MODELS as CLASSIFIERS

    stock = dict(
        type='VisionTransformer',
        arch=dict(embed_dims=16, num_layers=DEPTH, num_heads=2, feedforward_channels=64),
        img_size=64,
        patch_size=16,
        with_cls_token=False,
        out_type='featmap',
    )
    ours = dict(type='mmseg.StepViT', **dict(STEP, maps=True, out_indices=(DEPTH - 1,)))
    rates = []
    for backbone in (stock, ours):
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = CLASSIFIERS.build(
                dict(
                    type='ImageClassifier',
                    backbone=backbone,
                    neck=dict(type='GlobalAveragePooling'),
                    head=dict(type='LinearClsHead', num_classes=3, in_channels=16),
                )
            )
            found = groups(model, 'LearningRateDecayOptimWrapperConstructor', layer_decay_rate=0.5)
        rates.append({name: (group['lr'], group['layer_id']) for name, group in found.items()})
    common = set(rates[0]) & set(rates[1])
    assert len(common) > 25 and 'backbone.layers.2.ln1.weight' in common
    assert all(rates[0][name] == rates[1][name] for name in common)
