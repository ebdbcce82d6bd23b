"""Parts that do not go together say what to do instead."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_arta.models.token_reduction import ActiveTokens
from tests.builders import NANO

ARTA = dict(
    type='ARTA',
    arch=NANO,
    allocation=dict(type='ThresholdAllocation', thresholds=(0.0, 0.0, 0.0)),
)
AFF = dict(type='AutoFocusFormer', arch='mini')
VIT = dict(
    type='StepViT',
    arch=dict(embed_dims=32, num_layers=4, num_heads=2),
    img_size=64,
    out_indices=(0, 1, 2, 3),
)


def widths(backbone: dict[str, Any]) -> list[int]:
    if backbone is ARTA:
        return list(reversed(NANO['dims']))
    return [32, 64, 128, 256] if backbone is AFF else [32] * 4


def behind(backbone: dict[str, Any], **part: Any) -> Any:
    init_default_scope('mmseg')
    found = widths(backbone)
    several = dict(
        in_channels=found,
        in_index=[0, 1, 2, 3],
        channels=16,
        num_classes=3,
        norm_cfg=dict(type='BN'),
    )
    parts = {
        'fcn': dict(
            decode_head=dict(
                type='FCNHead',
                in_channels=found[-1],
                in_index=3,
                channels=16,
                num_classes=3,
                norm_cfg=dict(type='BN'),
            )
        ),
        'segformer': dict(decode_head=dict(type='SegformerHead', **several)),
        'lrhead': dict(
            decode_head=dict(
                type='LRHead', in_channels=found[1:], channels=16, num_heads=2, num_classes=3
            )
        ),
        'fpn': dict(
            neck=dict(type='FPN', in_channels=found, out_channels=16, num_outs=4),
            decode_head=dict(
                type='FCNHead',
                in_channels=16,
                in_index=0,
                channels=16,
                num_classes=3,
                norm_cfg=dict(type='BN'),
            ),
        ),
    }
    return MODELS.build(
        dict(type='EncoderDecoder', backbone=backbone, **parts[part['what']])
    ).eval()


@pytest.mark.parametrize('what', ['fcn', 'segformer', 'lrhead', 'fpn'])
@pytest.mark.parametrize('backbone', [ARTA, AFF], ids=['arta', 'aff'])
@torch.no_grad()
def test_maps_wanted_tokens_found(backbone: dict[str, Any], what: str) -> None:
    with pytest.raises(TypeError, match="put neck=dict\\(type='TokensToMaps'"):
        behind(backbone, what=what).encode_decode(
            torch.randn(1, 3, 64, 64), [dict(img_shape=(64, 64))]
        )


@pytest.mark.parametrize('what', ['fcn', 'segformer', 'lrhead'])
@torch.no_grad()
def test_maps_wanted_reduced_tokens_found(what: str) -> None:
    with pytest.raises((AttributeError, TypeError), match='set maps=True'):
        behind(VIT, what=what).encode_decode(torch.randn(1, 3, 64, 64), [dict(img_shape=(64, 64))])


@torch.no_grad()
def test_tokens_are_what_they_were() -> None:
    init_default_scope('mmseg')
    tokens = MODELS.build(ARTA).eval()(torch.randn(1, 3, 64, 64))
    assert tokens and copy.copy(tokens).levels is tokens.levels
    active = ActiveTokens(torch.ones(2, 3), None, (2,))
    again = pickle.loads(pickle.dumps(active))
    assert torch.equal(again.feats, active.feats) and copy.deepcopy(active).lengths == (2,)
    assert not hasattr(active, 'shape') and not hasattr(active, '__len__')
