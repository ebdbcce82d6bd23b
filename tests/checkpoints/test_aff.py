"""Published key lists of AutoFocusFormer against our models, both ways."""

from __future__ import annotations

import json

import pytest
import torch

from mmseg_arta.checkpoints.aff import convert_aff, convert_aff_backbone, convert_aff_segmentor
from mmseg_arta.models import AutoFocusFormer, SparseMask2FormerHead
from tests.helpers import DATA


def published(name):
    keys = json.loads((DATA / f'keys/aff_{name}.json').read_text())
    return {key: torch.empty(shape, device='meta') for key, shape in keys.items()}


def shapes(state, prefix=''):
    return {prefix + key: tuple(value.shape) for key, value in state.items()}


@pytest.mark.parametrize('arch', ['mini', 'small'])
def test_segmentor(arch):
    with torch.device('meta'):
        backbone = AutoFocusFormer(arch)
        head = SparseMask2FormerHead(
            backbone.out_channels,
            150,
            cell_position='none',
            pixel_decoder=dict(type='point', mask_tokens='finest', project_same=True),
        )
    expected = shapes(backbone.state_dict(), 'backbone.')
    expected |= shapes(head.state_dict(), 'decode_head.')
    assert shapes(convert_aff(published(f'{arch}_ade20k_mask2former'))) == expected


@pytest.mark.parametrize('arch', ['mini', 'small'])
def test_classifier(arch):
    with torch.device('meta'):
        backbone = AutoFocusFormer(arch, out_stages=(3,))
    expected = shapes(backbone.state_dict(), 'backbone.')
    channels = backbone.out_channels[0]
    expected |= {'head.fc.weight': (1000, channels), 'head.fc.bias': (1000,)}
    assert shapes(convert_aff(published(f'{arch}_cls'))) == expected


def test_classifier_weights_start_a_segmentation_backbone():
    # All but the norms of the stages that a classifier does not hand out.
    with torch.device('meta'):
        wanted = set(AutoFocusFormer('mini').state_dict())
    found = {
        key.removeprefix('backbone.')
        for key in convert_aff(published('mini_cls'))
        if key.startswith('backbone.')
    }
    norms = {f'stages.{stage}.norm.{kind}' for stage in range(3) for kind in ('weight', 'bias')}
    assert wanted - found == norms and found <= wanted


def test_what_is_left_out_and_what_is_named():
    assert convert_aff_segmentor({'criterion.empty_weight': torch.zeros(1)}) == {}
    with pytest.raises(ValueError, match=r"1 keys outside \['backbone.', 'sem_seg_head.'\].*'ema"):
        convert_aff_segmentor({'ema.weight': torch.zeros(1)})
    with pytest.raises(ValueError, match='1 keys without a rule'):
        convert_aff_backbone({'layers.0.upsample.weight': torch.zeros(1)})
