"""AutoFocusFormer's operations against those measured on the published code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS

from mmseg_arta.analysis.flops import count_operations, formulas
from mmseg_arta.models import AutoFocusFormer

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/aff'

# Convolutions and matrix products of classifiers at 224x224, billions.
CLASSIFIERS = {
    ('mini', 0.25): 1.077,
    ('mini', 0.2): 0.732,
    ('tiny', 0.25): 4.028,
    ('tiny', 0.2): 2.737,
    ('small', 0.25): 8.151,
    ('small', 0.2): 5.685,
}
# Backbone, pixel decoder and transformer decoder with all norms at 512x512, billions.
SEGMENTORS = {'aff-mini': 44.46, 'aff-mini-1-5': 36.11}


@pytest.fixture
def no_norms(monkeypatch):
    for operator in list(formulas._BY_OPERATOR):
        if 'norm' in operator.__name__:
            monkeypatch.setitem(formulas._BY_OPERATOR, operator, lambda args, out: 0)


@pytest.mark.parametrize('arch, rate', CLASSIFIERS, ids=str)
@pytest.mark.usefixtures('no_norms')
def test_classifiers_cost_what_was_measured(arch, rate):
    model = AutoFocusFormer(
        arch, downsample_rate=rate, neighborhood_size=(48, 48, 48, 49), out_stages=(3,)
    )
    found = count_operations(model, (224, 224)).macs_published
    # The norms of the merging's weights over the table of all relative positions stay.
    found += model.out_channels[0] * 1000 - 3 * 111**2 * 20
    assert found / 1e9 == pytest.approx(CLASSIFIERS[arch, rate], abs=6e-4)


@pytest.mark.parametrize('name', SEGMENTORS)
def test_segmentors_cost_what_was_measured(name):
    config = Config.fromfile(CONFIGS / f'{name}_mask2former_4xb8-80k_ade20k-512x512.py')
    count = count_operations(MODELS.build(config.model), (512, 512))
    parts = ('backbone', 'pixel_decoder', 'transformer_decoder')
    total = sum(count.components[part].macs_published for part in parts)
    assert total / 1e9 == pytest.approx(SEGMENTORS[name], abs=6e-3)
    # The class scores at full resolution and the resizing before and after them.
    area = 512 * 512
    scores = count.components['post_processing']
    assert scores.macs == scores.macs_published == area * (150 * 100 + 4 * 100 + 4 * 150)


@pytest.mark.parametrize('expanded, terms', [(True, 5), (False, 2)])
def test_merging_weighs_all_relative_positions_in_the_published_code(expanded, terms):
    # That of segmentation models is larger than a classifier's.
    model = AutoFocusFormer('mini', out_stages=(3,), expanded_position=expanded)
    wrapped = torch.nn.Module()
    wrapped.backbone, wrapped.decode_head = model, torch.nn.Identity()
    wrapped.forward = model.forward
    alone, inside = (count_operations(m, (64, 64)).macs_published for m in (model, wrapped))
    more_rows = 1023**2 - 31**2
    heads = sum(depth * heads for depth, heads in zip((2, 2, 6, 2), (2, 4, 8, 16), strict=True))
    assert inside - alone == more_rows * (3 * (terms * 4 + 5 * 4) + terms * heads)
