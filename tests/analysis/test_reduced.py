"""Models at reduced depth keep their structure and widths."""

from __future__ import annotations

import copy

import pytest
from mmseg.registry import MODELS

from mmseg_arta.analysis.family import Family
from mmseg_arta.analysis.reduced import reduced_model, reducers_of


def blocks(model):
    rounds = [*model.backbone.allocation_rounds, *model.backbone.refinement_rounds]
    return [len(part.blocks) for part in rounds]


def test_arta_with_mask2former():
    config = dict(
        type='EncoderDecoder',
        backbone=dict(type='ARTA', arch='tiny', drop_path_rate=0.3),
        decode_head=dict(
            type='SparseMask2FormerHead', in_channels=(512, 256, 128, 64), num_classes=3
        ),
        auxiliary_head=[dict(type='BoundaryScoreHead')],
    )
    before = copy.deepcopy(config)
    reduced = reduced_model(config)
    assert config == before
    model = MODELS.build(reduced)
    assert blocks(model) == [1] * 7
    assert model.backbone.out_channels == (512, 256, 128, 64)
    assert len(model.decode_head.pixel_decoder.layers) == 1
    assert len(model.decode_head.transformer_decoder.layers) == 3
    assert len(model.auxiliary_head) == 1
    assert reduced['backbone']['drop_path_rate'] == 0.0


@pytest.mark.parametrize(
    'before, after',
    [
        pytest.param(
            dict(type='MixVisionTransformer', num_layers=[3, 4, 18, 3], embed_dims=64),
            dict(num_layers=[1, 1, 1, 1], embed_dims=64),
            id='mit',
        ),
        pytest.param(
            dict(type='mmseg.SwinTransformer', depths=[2, 2, 18, 2], drop_path=0.2),
            dict(depths=[2, 1, 1, 1], drop_path=0.0),
            id='swin',
        ),
        pytest.param(dict(type='ResNet', depth=101), dict(depth=50), id='resnet101'),
        pytest.param(dict(type='ResNet', depth=34), dict(depth=18), id='resnet34'),
    ],
)
def test_stock_backbones(before, after):
    assert reduced_model(dict(backbone=before))['backbone'] == before | after


def test_nothing_is_loaded_or_synchronised():
    pretrained = dict(type='Pretrained', checkpoint='weights.pth')
    normal = dict(type='Normal', std=0.1)
    reduced = reduced_model(
        dict(
            type='Unknown',
            pretrained='weights.pth',
            backbone=dict(type='Other', init_cfg=pretrained, norm_cfg=dict(type='SyncBN')),
            decode_head=[dict(type='A', init_cfg=[pretrained, normal]), dict(init_cfg=normal)],
        )
    )
    assert reduced == dict(
        type='Unknown',
        pretrained=None,
        backbone=dict(type='Other', norm_cfg=dict(type='BN')),
        decode_head=[dict(type='A', init_cfg=[normal]), dict(init_cfg=normal)],
    )


def test_rules_reach_nested_modules_and_are_unique(monkeypatch):
    def shorten(config):
        return config | dict(depth=1)

    family = Family(reducers={'Inner': shorten})
    monkeypatch.setattr('mmseg_arta.analysis.reduced.REDUCERS', reducers_of({'a': family}))

    reduced = reduced_model(dict(neck=dict(type='Outer', parts=[dict(type='Inner', depth=9)])))
    assert reduced['neck']['parts'] == [dict(type='Inner', depth=1)]
    with pytest.raises(ValueError, match=r"b reduces \['Inner'\], and so does a family before it"):
        reducers_of({'a': family, 'b': family})
