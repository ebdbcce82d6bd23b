"""The size of a window: our slide mode and our heads against the stock ones, all geometries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmseg_arta.models import BatchedSlideEncoderDecoder
from mmseg_arta.models.segmentors.windows import slide_corners


@MODELS.register_module(force=True)
class PooledMaps(nn.Module):
    """Maps of means of 4, 8, 16 and 32 px, or of one size; the last cells may stand out."""

    def __init__(self, strides: Sequence[int]) -> None:
        super().__init__()
        self.strides = strides
        self.lift = nn.Conv2d(3, 8, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        lifted = self.lift(image)
        return tuple(F.avg_pool2d(lifted, side, ceil_mode=True) for side in self.strides)


def head(kind: str) -> dict[str, Any]:
    if kind == 'stock':
        return dict(
            type='FCNHead', in_channels=8, channels=8, num_convs=1, norm_cfg=dict(type='BN')
        )
    if kind == 'atm':
        return dict(type='ATMHead', in_channels=8, channels=8, num_heads=2, patch_size=16)
    return dict(
        type='SparseMask2FormerHead',
        in_channels=(8, 8, 8, 8),
        dim=64,
        num_queries=4,
        pixel_decoder=dict(type='grid', num_layers=1, num_heads=2, hidden=16),
        transformer_decoder=dict(num_layers=1, num_heads=2, hidden=16),
    )


def segmentor(kind: str) -> nn.Module:
    init_default_scope('mmseg')
    torch.manual_seed(0)
    strides = (16, 16, 16) if kind == 'atm' else (4, 8, 16, 32)
    config = dict(
        type='BatchedSlideEncoderDecoder',
        backbone=dict(type='PooledMaps', strides=strides),
        decode_head=dict(num_classes=3, **head(kind)),
        test_cfg=dict(mode='whole'),
    )
    return MODELS.build(config).eval()


KINDS = ('stock', 'mask2former', 'atm')
MODELS_OF = {kind: segmentor(kind) for kind in KINDS}

sides = st.integers(1, 140)
sizes = st.tuples(sides, sides)


@pytest.mark.parametrize('kind', KINDS)
@settings(max_examples=150, deadline=None)
@given(
    size=sizes,
    crop=st.tuples(st.integers(8, 140), st.integers(8, 140)),
    part=st.tuples(st.floats(0.3, 1.0), st.floats(0.3, 1.0)),
    pad=st.sampled_from(['none', 'image', 'stock']),
    at_once=st.integers(1, 5),
)
@torch.no_grad()
def test_windows_of_any_geometry(kind, size, crop, part, pad, at_once):
    model = MODELS_OF[kind]
    stride = tuple(max(int(side * share), 1) for side, share in zip(crop, part, strict=True))
    assume(len(slide_corners(size, crop, stride)) <= 40)
    model.test_cfg = ConfigDict(
        mode='slide', crop_size=crop, stride=stride, windows_per_forward=at_once
    )
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(sum(size)))
    meta = dict(ori_shape=size, img_shape=size)
    if pad == 'image':
        # What the image was before it was padded to ``size``.
        meta = dict(ori_shape=size, img_shape=(max(size[0] - 3, 1), size[1]), pad_shape=size)
    elif pad == 'stock':
        # What stock code makes where no samples are given.
        meta = dict(ori_shape=image.shape[2:], img_shape=image.shape[2:], pad_shape=image.shape[2:])
    expected = EncoderDecoder.slide_inference(model, image, [dict(meta)])
    found = BatchedSlideEncoderDecoder.slide_inference(model, image, [dict(meta)])
    assert expected.shape[2:] == size
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('kind', KINDS)
@settings(max_examples=60, deadline=None)
@given(size=sizes, pad=st.tuples(st.integers(0, 40), st.integers(0, 40)))
@torch.no_grad()
def test_padded_images_are_whole(kind, size, pad):
    model = MODELS_OF[kind]
    model.test_cfg = ConfigDict(mode='whole')
    whole = tuple(side + more for side, more in zip(size, pad, strict=True))
    meta = dict(ori_shape=size, img_shape=size, pad_shape=whole)
    assert model.encode_decode(torch.randn(1, 3, *whole), [meta]).shape[2:] == whole


@pytest.mark.parametrize(
    ('kind', 'crop', 'size'),
    [('mask2former', 125, (127, 128)), ('atm', 113, (128, 120)), ('mask2former', 769, (772, 770))],
)
@torch.no_grad()
def test_windows_that_round_up_to_the_cells_of_the_image(kind, crop, size):
    model = MODELS_OF[kind]
    model.test_cfg = ConfigDict(mode='slide', crop_size=(crop, crop), stride=(crop - 30, crop - 30))
    meta = dict(ori_shape=size, img_shape=size, pad_shape=size)
    for slide in (EncoderDecoder.slide_inference, BatchedSlideEncoderDecoder.slide_inference):
        assert slide(model, torch.randn(1, 3, *size), [dict(meta)]).shape[2:] == size


@pytest.mark.parametrize('kind', KINDS)
@torch.no_grad()
def test_without_samples(kind):
    model = MODELS_OF[kind]
    model.test_cfg = ConfigDict(mode='slide', crop_size=(50, 61), stride=(20, 30))
    (sample,) = model.predict(torch.randn(1, 3, 70, 90))
    assert sample.pred_sem_seg.data.shape == (1, 70, 90)
