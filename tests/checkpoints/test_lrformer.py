"""Published key lists against our models: nothing left over, nothing missing."""

from __future__ import annotations

import json

import pytest
import torch

from mmseg_arta.checkpoints import convert_state_dict
from mmseg_arta.checkpoints.lrformer import convert_lrformer, convert_lrformer_backbone
from mmseg_arta.models import LRFormer, LRHead
from tests.helpers import DATA


def published(arch):
    keys = json.loads((DATA / f'keys/lrformer_{arch}.json').read_text())
    return {key: torch.empty(shape, device='meta') for key, shape in keys.items()}


def shapes(state):
    return {key: tuple(value.shape) for key, value in state.items()}


def ours(arch, channels):
    with torch.device('meta'):
        backbone = LRFormer(arch)
        head = LRHead(backbone.out_channels[1:], channels, num_classes=150)
    parts = {'backbone': backbone, 'decode_head': head}
    return {f'{n}.{key}': v for n, part in parts.items() for key, v in part.state_dict().items()}


@pytest.mark.parametrize(
    'arch, channels', [('t', 256), ('s', 384), ('b', 512), ('l', 640), ('xl', 768)]
)
def test_published_segmentors(arch, channels):
    found = convert_state_dict('lrformer', published(arch))
    assert shapes(found) == shapes(ours(arch, channels))


def test_backbone_alone():
    prefix = 'backbone.'
    state = {k[len(prefix) :]: v for k, v in published('t').items() if k.startswith(prefix)}
    wanted = {k: v for k, v in shapes(ours('t', 256)).items() if k.startswith(prefix)}
    classifier = {'head.weight': torch.zeros(1), 'head.bias': torch.zeros(1)}
    assert shapes(convert_lrformer(state | classifier)) == wanted


def test_queries_of_the_decoder_become_linear():
    weight = torch.arange(4.0).view(2, 2, 1, 1)
    found = convert_lrformer({'decode_head.fuse_block2.attn.q.weight': weight})
    assert torch.equal(found['decode_head.block2.attn.q.weight'], torch.tensor([[0, 1.0], [2, 3]]))


def test_other_layouts_are_named():
    with pytest.raises(ValueError, match=r'1 keys without a rule.*block1\.0\.attn\.sr'):
        convert_lrformer_backbone({'block1.0.attn.sr.weight': torch.zeros(1)})
    with pytest.raises(ValueError, match=r"1 keys outside \['backbone.', .*'ema"):
        convert_lrformer({'ema.x': torch.zeros(1), 'backbone.block1.0.cpe.bias': torch.zeros(1)})
    with pytest.raises(ValueError, match='0 keys'):
        convert_lrformer({'head.weight': torch.zeros(1)})
