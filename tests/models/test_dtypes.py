"""Whole models in other number types: ``model.half()``, ``.bfloat16()``, ``.double()``."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.models import SegDataPreProcessor
from torch import nn

from mmseg_arta.models.layers import PointConv
from mmseg_arta.ops.cluster_attention import reference
from mmseg_arta.structures import Neighborhood
from tests.builders import FAMILIES, VARIANTS, family_segmentor, samples

SIZE = (64, 64)
KINDS = [torch.float64, torch.bfloat16, torch.float16]
#: What the scores of a converted model may deviate from those in float32, in the mean, as a
#: multiple of what autocast to the same type does. Autocast keeps scores and pixel decoder in
#: float32; measured are up to 2.5 times.
FACTOR = 4.0


def build(name: str) -> nn.Module:
    """A model behind the stock preprocessor; weights without ties, which new ones have."""
    return copy.deepcopy(_built(name))


@cache
def _built(name: str) -> nn.Module:
    torch.manual_seed(0)
    preprocessor = dict(
        type=SegDataPreProcessor, mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4]
    )
    model = family_segmentor(name, data_preprocessor=preprocessor).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


@torch.no_grad()
def scores_of(model: nn.Module, autocast: torch.dtype | None = None) -> torch.Tensor:
    """Class scores ``(4, 5, H, W)`` float64 of float32 images."""
    images = torch.randn((4, 3, *SIZE), generator=torch.Generator().manual_seed(1))
    enabled = autocast is not None
    with torch.autocast('cpu', dtype=autocast or torch.bfloat16, enabled=enabled):
        found = model.predict(images, samples(SIZE, batch=4))
    scores = torch.stack([sample.seg_logits.data for sample in found]).double()
    assert scores.shape == (4, 5, *SIZE) and scores.isfinite().all()
    logits = type(model.decode_head).__name__ in ('LRHead', 'SegformerHead')
    return scores.softmax(1) if logits else scores


def deviation(found: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Mean absolute deviation of the median image.

    In a few images rounding decides about a token, or about a place in a mask, that was a close
    call: the deviation there says nothing about the number of digits.
    """
    return (found - expected).abs().mean((1, 2, 3)).median()


def predicted(model: nn.Module) -> torch.Tensor:
    try:
        return scores_of(model)
    except RuntimeError as error:
        # PyTorch's operators on CPUs came to half precision one after the other.
        if "not implemented for 'Half'" in str(error):
            pytest.skip(f'this PyTorch has no half precision here: {error}')
        raise


@pytest.mark.parametrize('name', FAMILIES)
def test_predictions_are_as_near_as_under_autocast(name: str) -> None:
    model = build(name)
    expected = scores_of(model)
    for kind in KINDS:
        found = predicted(copy.deepcopy(model).to(kind))
        if kind == torch.float64:
            assert (found - expected).abs().max() < 1e-4
        else:
            usual = deviation(scores_of(model, kind), expected)
            assert deviation(found, expected) < FACTOR * usual, kind


@pytest.mark.parametrize('name', FAMILIES)
@torch.no_grad()
def test_images_of_the_stock_preprocessor(name: str) -> None:
    model = build(name).bfloat16()
    images = [torch.randint(0, 255, (3, *SIZE), dtype=torch.uint8)]
    data = model.data_preprocessor(dict(inputs=images, data_samples=samples(SIZE, batch=1)))
    # Stock models refuse it beside weights of another type.
    assert data['inputs'].dtype == torch.float32
    (first,) = model.predict(**data)
    (second,) = model.predict(data['inputs'].bfloat16(), data['data_samples'])
    assert torch.equal(first.seg_logits.data, second.seg_logits.data)
    assert first.pred_sem_seg.data.shape == (1, *SIZE)


@pytest.mark.parametrize('kind', [torch.float64, torch.bfloat16])
@pytest.mark.parametrize('name', [*FAMILIES, *VARIANTS])
def test_a_training_step(name: str, kind: torch.dtype) -> None:
    model = build(name).to(kind).train()
    losses = model.loss(torch.randn(2, 3, *SIZE), samples(SIZE))
    total = sum(value for key, value in losses.items() if 'loss' in key)
    total.backward()
    assert total.isfinite()
    weights = [p for p in model.parameters() if p.grad is not None]
    # Branches without tokens aside: every parameter has a gradient.
    assert len(weights) > 0.9 * len(list(model.parameters()))
    assert all(p.grad.isfinite().all() and p.grad.dtype == kind for p in weights)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('name', VARIANTS)
def test_variants_predict(name: str, kind: torch.dtype) -> None:
    model = build(name)
    expected = scores_of(model)
    found = predicted(model.to(kind))
    assert deviation(found, expected) < (1e-5 if kind == torch.float64 else 0.05)


def test_windows_add_up_in_float32() -> None:
    windows = ConfigDict(mode='slide', crop_size=(32, 32), stride=(4, 4))
    model = family_segmentor('LRFormer', type='BatchedSlideEncoderDecoder', test_cfg=windows)
    model.bfloat16().encode_decode = lambda crops, metas: torch.full_like(
        crops[:, :1].expand(-1, 5, -1, -1), 0.1
    )
    found = model.slide_inference(torch.zeros(1, 3, 64, 64, dtype=torch.bfloat16), [{}])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.full_like(found, float(torch.tensor(0.1).bfloat16())))


def _neighborhood(far: int) -> Neighborhood:
    """Two tokens in one cluster, ``far`` times 4 px apart."""
    row = torch.arange(2)
    return Neighborhood(
        row,
        row,
        torch.tensor([0, 2, 2]),
        torch.tensor([[0], [0]]),
        torch.tensor([[0, 0], [far, 0]], dtype=torch.int32),
        torch.zeros(2, dtype=torch.int64),
        (2,),
        2,
    )


def test_far_neighbours_do_not_overflow() -> None:
    torch.manual_seed(0)
    half = torch.float16
    q, kv = torch.randn(2, 1, 4, dtype=half), torch.randn(2, 1, 2, 4, dtype=half)
    weight, bias = torch.full((1, 5), 1e-3, dtype=half), torch.zeros(1, dtype=half)
    blank = torch.zeros(1, 4, dtype=half)
    inputs = (q, kv, weight, bias, blank, blank)
    found = reference.cluster_attention(*inputs, _neighborhood(300), None)
    wide = (tensor.double() for tensor in inputs)
    expected = reference.cluster_attention(*wide, _neighborhood(300), None)
    torch.testing.assert_close(found.double(), expected, atol=1e-2, rtol=0)

    conv = PointConv(4, 4)
    places = torch.tensor([[[0, 0], [300, 0]]], dtype=torch.int32)
    x, rows = torch.randn(2, 4), torch.tensor([[0, 1]])
    expected = conv(x, rows, places)
    found = conv.half()(x.half(), rows, places)
    torch.testing.assert_close(found.float(), expected, atol=2e-2, rtol=0)
