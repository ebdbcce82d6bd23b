"""Published SegViT, DToP and CTS checkpoints have a place for every weight in our configs."""

from __future__ import annotations

import json

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS

from mmseg_arta.checkpoints import CONVERTERS
from mmseg_arta.checkpoints.segvit import convert_atm_head, convert_cts_policy, convert_segvit
from mmseg_arta.models import GroupPolicyNet
from tests.helpers import DATA

ROOT = DATA.parents[1]


def published(name):
    keys = json.loads((DATA / name).read_text())
    return {key: torch.empty(shape, device='meta') for key, shape in keys.items()}


@pytest.mark.parametrize(
    'keys, config, family',
    [
        (
            'segvit/keys_vit-b_ade20k.json',
            'segvit/segvit_vit-b16_8xb2-160k_ade20k-512x512.py',
            'segvit',
        ),
        ('dtop/keys_vit-b_ade20k.json', 'dtop/dtop_vit-b16_8xb2-40k_ade20k-512x512.py', 'dtop'),
    ],
    ids=['SegViT', 'DToP'],
)
def test_full_size_checkpoints_fit_their_configs(keys, config, family):
    converted = CONVERTERS[family](published(keys))
    with torch.device('meta'):
        model = MODELS.build(Config.fromfile(ROOT / 'configs' / config).model)
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert {key: tuple(value.shape) for key, value in converted.items()} == expected


def test_cts_policy_fits():
    converted = CONVERTERS['cts'](published('cts/keys_policy.json'))
    expected = GroupPolicyNet().state_dict()
    assert converted.keys() == expected.keys()
    assert all(value.shape == expected[key].shape for key, value in converted.items())


@pytest.mark.parametrize(
    'convert, key',
    [
        (convert_segvit, 'neck.weight'),
        (convert_atm_head, 'decoder_1.layers.0.other.weight'),
        (convert_cts_policy, 'decoder.weight'),
    ],
)
def test_other_layouts_are_refused(convert, key):
    with pytest.raises(ValueError, match=key):
        convert({key: torch.zeros(1)})
