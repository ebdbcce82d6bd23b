"""Published key lists against our models, both ways: nothing left over, nothing missing."""

from __future__ import annotations

import json

import pytest
import torch

from mmseg_arta.checkpoints.arta import convert_arta_segmentor
from mmseg_arta.checkpoints.mask2former import convert_mask2former_head
from mmseg_arta.models import SparseMask2FormerHead
from tests.helpers import DATA

KEYS = json.loads((DATA / 'keys/arta_tiny_mask2former_published.json').read_text())


def published(prefix=''):
    return {
        key.removeprefix(prefix): torch.empty(shape, device='meta')
        for key, shape in KEYS.items()
        if key.startswith(prefix)
    }


def head():
    with torch.device('meta'):
        return SparseMask2FormerHead((512, 256, 128, 64), 150, cell_position='sine')


def test_head_of_a_published_checkpoint():
    found = convert_mask2former_head(published('sem_seg_head.'))
    expected = head().state_dict()
    assert {key: value.shape for key, value in found.items()} == {
        key: value.shape for key, value in expected.items()
    }


def test_segmentor_of_a_published_checkpoint():
    state = published()
    assert 'criterion.empty_weight' in state
    found = convert_arta_segmentor(state)
    assert set(found) == {f'decode_head.{key}' for key in head().state_dict()}


def test_other_layouts_are_named():
    with pytest.raises(ValueError, match=r"1 keys outside \['backbone.', 'sem_seg_head.'\].*'ema"):
        convert_arta_segmentor({'ema.weight': torch.zeros(1)})
    with pytest.raises(ValueError, match='1 keys without a rule'):
        convert_mask2former_head({'predictor.other.weight': torch.zeros(1)})
