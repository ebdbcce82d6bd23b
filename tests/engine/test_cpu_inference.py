"""Modules swapped for inference on a CPU compute what the plain ones do."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmseg_arta.engine import cpu_inference, prepare_for_cpu_inference
from mmseg_arta.engine.cpu_inference import by_rows, linear_add, linear_gelu
from mmseg_arta.models import ARTA

needs_onednn = pytest.mark.skipif(
    not cpu_inference.AVAILABLE, reason='oneDNN fuses on x86 processors only'
)
NANO = dict(
    dims=(64, 64, 32, 32),
    allocation_depths=(1, 1, 1),
    refinement_depths=(1, 1, 1, 1),
    num_heads=(2, 2, 1, 1),
)


class Ops(TorchDispatchMode):
    """How often each op was called."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        self.calls[str(op.overloadpacket)] += 1
        return op(*args, **(kwargs or {}))

    @property
    def fused(self):
        return self.calls['mkldnn._linear_pointwise']


@needs_onednn
@pytest.mark.parametrize('bias', [True, False], ids=['bias', 'no bias'])
@pytest.mark.parametrize('shape', [(256, 8), (768, 1), (2, 256, 33), (1, 4, 64, 16)], ids=str)
def test_fused_steps_are_the_steps(shape, bias):
    torch.manual_seed(0)
    layer, x, other = nn.Linear(shape[-1], 24, bias), torch.randn(shape), None
    other = torch.randn(*shape[:-1], 24)
    exact = F.linear(x.double(), layer.weight.double(), layer.bias.double() if bias else None)
    with torch.no_grad(), Ops() as ops:
        results = linear_gelu(x, layer), linear_add(x, layer, other)
    assert ops.fused == 2
    for result, want in zip(results, (F.gelu(exact), other + exact), strict=True):
        torch.testing.assert_close(result.double(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('count', [0, 1, 255, 257])
def test_numbers_of_rows_that_onednn_would_prepare_anew(count):
    layer, x = nn.Linear(8, 24), torch.randn(count, 8)
    with torch.no_grad(), Ops() as ops:
        assert torch.equal(linear_gelu(x, layer), F.gelu(layer(x)))
    assert ops.fused == 0


@pytest.mark.parametrize('what', ['gradients', 'autocast', 'switched off', 'float64'])
def test_where_nothing_is_fused(what):
    layer, x = nn.Linear(8, 8), torch.randn(256, 8)
    grad = what == 'gradients'
    if what == 'float64':
        layer, x = layer.double(), x.double()
    enabled = what != 'switched off'
    with (
        torch.set_grad_enabled(grad),
        torch.autocast('cpu', torch.bfloat16, enabled=what == 'autocast'),
        torch.backends.mkldnn.flags(enabled=enabled),
        Ops() as ops,
    ):
        assert torch.equal(linear_gelu(x, layer), F.gelu(layer(x)))
        assert torch.equal(linear_add(x, layer, x), x + layer(x))
    assert ops.fused == 0


@pytest.mark.parametrize('count', [0, 1, 2047, 2048, 2049, 70000])
def test_rows_are_the_same_in_blocks(count):
    x, y, calls = torch.randn(count, 12), torch.randn(count, 3), []

    def function(x, y):
        calls.append(len(x))
        return x[:, :3] * 2 + y

    with torch.no_grad():
        assert torch.equal(by_rows(function, x, y), x[:, :3] * 2 + y)
    assert sum(calls) == count
    assert (len(calls) > 1) == (count > 2048)


def encoders(**options):
    torch.manual_seed(0)
    allocation = dict(type='FixedRatioAllocation', ratios=(0.9, 0.8, 0.7))
    plain = ARTA(arch=NANO | options.pop('arch', {}), allocation=allocation, **options)
    plain.init_weights()
    return plain.eval(), prepare_for_cpu_inference(copy.deepcopy(plain))


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(arch=dict(layer_scale_init=1.0)),
        dict(mixed_block='msdeform'),
        dict(coarse_block='swin', image_hidden='deep'),
        dict(use_image=False),
    ],
    ids=['plain', 'layer scale', 'msdeform', 'swin, deep', 'no image'],
)
def test_encoder_computes_the_same(options):
    plain, fast = encoders(**options)
    image = torch.randn(1, 3, 256, 320)
    with torch.no_grad():
        expected = plain(image)
        with Ops() as ops:
            result = fast(image)
    if cpu_inference.AVAILABLE:
        assert ops.fused > 0
    for level, want in zip(result.levels, expected.levels, strict=True):
        assert torch.equal(level.xy, want.xy)
        torch.testing.assert_close(level.feats, want.feats, rtol=1e-4, atol=1e-4)
    for one, want in zip(result.rounds, expected.rounds, strict=True):
        torch.testing.assert_close(one.scores, want.scores, rtol=1e-4, atol=1e-5)


def test_with_gradients_it_computes_as_before():
    plain, fast = encoders()
    image = torch.randn(1, 3, 64, 96)
    for level, want in zip(fast(image).levels, plain(image).levels, strict=True):
        assert torch.equal(level.feats, want.feats)


def test_number_of_parameters_stays():
    plain, fast = encoders()
    counts = [sum(p.numel() for p in model.parameters()) for model in (plain, fast)]
    assert counts[0] == counts[1]
    assert not fast.training
