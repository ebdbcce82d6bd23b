"""Linear layers together with the step after them."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mmseg_arta.analysis.flops.counter import OperatorCounter
from mmseg_arta.analysis.flops.formulas import count_call
from mmseg_arta.models.layers import (
    fused_linear,
    in_sequence,
    linear_act,
    linear_add,
)
from mmseg_arta.models.layers.fused_linear import ROWS
from tests.builders import NANO, dense_segmentor
from tests.builders import sparse_segmentor as segmentor

needs_onednn = pytest.mark.skipif(
    not fused_linear._AVAILABLE, reason='oneDNN fuses on x86 processors only'
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


def layer_and_rows(shape, out=24, bias=True):
    torch.manual_seed(0)
    return nn.Linear(shape[-1], out, bias), torch.randn(shape)


SHAPES = [(ROWS, 8), (3 * ROWS, 1), (2, ROWS, 33), (1, 4, ROWS // 4, 16)]


@needs_onednn
@pytest.mark.parametrize('bias', [True, False], ids=['bias', 'no bias'])
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_fused_steps_are_the_steps(shape, bias):
    layer, x = layer_and_rows(shape, bias=bias)
    other = torch.randn(*shape[:-1], 24)
    exact = F.linear(x.double(), layer.weight.double(), None if not bias else layer.bias.double())
    with torch.no_grad(), Ops() as ops:
        found = [linear_act(x, layer, 'gelu'), linear_act(x, layer, 'relu')]
        found.append(linear_add(x, layer, other))
    assert ops.fused == 3
    for one, want in zip(found, (F.gelu(exact), exact.relu(), other + exact), strict=True):
        assert one.dtype == torch.float32 and one.shape == want.shape
        torch.testing.assert_close(one.double(), want, rtol=1e-5, atol=1e-5)


@needs_onednn
def test_rows_that_do_not_lie_end_to_end():
    layer, x = nn.Linear(8, 24), torch.randn(8, ROWS).t()
    other = torch.randn(24, ROWS).t()
    with torch.no_grad(), Ops() as ops:
        act, add = linear_act(x, layer, 'relu'), linear_add(x, layer, other)
    assert ops.fused == 1
    torch.testing.assert_close(act, layer(x).relu())
    torch.testing.assert_close(add, other + layer(x))


@pytest.mark.parametrize('count', [0, 1, ROWS - 1, ROWS + 1])
def test_numbers_of_rows_that_onednn_would_prepare_anew(count):
    layer, x = layer_and_rows((count, 8))
    other = torch.randn(count, 24)
    with torch.no_grad(), Ops() as ops:
        act, add = linear_act(x, layer, 'gelu'), linear_add(x, layer, other)
    assert ops.fused == 0
    assert torch.equal(act, F.gelu(layer(x))) and torch.equal(add, other + layer(x))


def test_a_row_that_is_added_to_all():
    layer, x = layer_and_rows((ROWS, 8))
    other = torch.randn(1, 24)
    with torch.no_grad():
        assert torch.equal(linear_add(x, layer, other), other + layer(x))


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def watched(layer):
    layer.register_forward_hook(lambda module, args, out: 2 * out)
    return layer


@pytest.mark.parametrize(
    'change',
    [
        lambda layer: Doubled(8, 24),
        watched,
        lambda layer: torch.nn.utils.parametrizations.weight_norm(layer),
    ],
    ids=['subclass', 'hook', 'parametrized'],
)
def test_layers_that_are_more_than_their_weights(change):
    layer, x = layer_and_rows((ROWS, 8))
    layer = change(layer)
    other = torch.randn(ROWS, 24)
    with torch.no_grad(), Ops() as ops:
        act, add = linear_act(x, layer, 'relu'), linear_add(x, layer, other)
    assert ops.fused == 0
    assert torch.equal(act, layer(x).relu()) and torch.equal(add, other + layer(x))


def test_gradients_autocast_and_other_number_types():
    layer, x = layer_and_rows((ROWS, 8))
    other = torch.randn(ROWS, 24)
    with Ops() as ops:
        linear_add(linear_act(x, layer, 'gelu'), nn.Linear(24, 24), other).sum().backward()
        with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
            assert linear_act(x, layer, 'gelu').dtype == torch.bfloat16
        with torch.no_grad():
            linear_act(x.double(), layer.double(), 'gelu')
            with torch.backends.mkldnn.flags(enabled=False):
                linear_act(x, layer.float(), 'gelu')
    assert ops.fused == 0 and layer.weight.grad is not None


@needs_onednn
def test_sequences():
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    layers = nn.Sequential(
        nn.Linear(5, 6),
        nn.GELU(),
        nn.LayerNorm(6),
        inner,
        nn.Linear(6, 4),
        nn.GELU('tanh'),
        nn.GELU(),
        nn.Linear(4, 2),
    )
    x = torch.randn(ROWS, 5)
    with torch.no_grad(), Ops() as ops:
        found = in_sequence(x, layers)
    assert ops.fused == 2
    torch.testing.assert_close(found, layers(x))
    found = in_sequence(x[:7], layers)
    assert found.requires_grad and torch.equal(found, layers(x[:7]))


@pytest.mark.parametrize('watch', ['whole', 'inner', 'activation'])
def test_hooks_in_sequences_are_called(watch):
    inner = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    layers = nn.Sequential(nn.Linear(5, 6), nn.GELU(), inner)
    layer = {'whole': layers, 'inner': inner, 'activation': layers[1]}[watch]
    layer.register_forward_hook(lambda module, args, out: 2 * out)
    x = torch.randn(ROWS, 5)
    with torch.no_grad():
        torch.testing.assert_close(in_sequence(x, layers), layers(x))


@needs_onednn
def test_multiply_accumulates_are_counted():
    layer, x = layer_and_rows((2, ROWS, 8))
    other = torch.randn(2, ROWS, 24)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        linear_act(x, layer, 'gelu')
        linear_add(x, layer, other)
    macs = 2 * ROWS * 8 * 24
    assert counter.get_total_flops() == 2 * 2 * macs
    op, shapes = torch.ops.mkldnn._linear_pointwise, (x, layer.weight, layer.bias)
    count = count_call(op, shapes, {}, other)
    assert (count.macs, count.kernel) == (macs, False)


@needs_onednn
def test_dry_runs_do_not_compute():
    layer, x = layer_and_rows((2, ROWS, 8))
    other = torch.ones(2, ROWS, 24)
    with torch.no_grad(), OperatorCounter(layer, dry=True) as counter:
        found = linear_act(x, layer, 'gelu'), linear_add(x, layer, other)
    assert all(one.shape == other.shape and not one.any() for one in found)
    assert sum(counter.operators.values()) == 2 * 2 * ROWS * 8 * 24


@needs_onednn
@pytest.mark.parametrize('decoder', ['sparse', 'dense'])
def test_segmentor(monkeypatch, decoder):
    torch.manual_seed(0)
    if decoder == 'sparse':
        model = segmentor()
        model.backbone = MODELS.build(
            dict(type='ARTA', arch=NANO, allocation=dict(type='FullAllocation'))
        )
    else:
        model = dense_segmentor(dict(type='point', mask_tokens='finest', project_same=True))
    model.eval()
    size = (384, 320)
    image = torch.randn(1, 3, *size)
    metas = [dict(img_shape=size, ori_shape=size, pad_shape=size)]
    with torch.no_grad():
        with Ops() as ops:
            fused = model.encode_decode(image, metas)
        monkeypatch.setattr(fused_linear, '_AVAILABLE', False)
        with Ops() as plain_ops:
            plain = model.encode_decode(image, metas)
    assert ops.fused > 2 and plain_ops.fused == 0
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-4)
