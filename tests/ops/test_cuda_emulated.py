"""CUDA kernels on the CPU against the reference: what they compute, not how fast."""

from __future__ import annotations

import math

import pytest
import torch

from mmseg_arta.ops.cuda import cluster_attention as attention
from mmseg_arta.ops.cuda import library, places
from mmseg_arta.ops.cuda import neighborhood_merge as merge
from mmseg_arta.ops.cuda import point_deform_attention as deform
from mmseg_arta.ops.reference import cluster_attention as ref_attention
from mmseg_arta.ops.reference import clusters as ref_clusters
from mmseg_arta.ops.reference import nearest_tokens as ref_nearest
from mmseg_arta.ops.reference import neighborhood_merge as ref_merge
from mmseg_arta.ops.reference import patches as ref_patches
from mmseg_arta.ops.reference import point_deform_attention as ref_deform
from tests.helpers import mixed_places
from tests.ops import (
    test_cpu_cluster_attention,
    test_cpu_neighborhood_merge,
    test_cpu_point_deform_attention,
)
from tests.ops.cpu_cases import poisoned
from tests.ops.emulated_cuda import compile_for_the_cpu

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
TOLERANCE = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 4e-2}


@pytest.fixture(scope='module')
def emulated(tmp_path_factory):
    return compile_for_the_cpu(tmp_path_factory.mktemp('emulated'))


@pytest.fixture(autouse=True)
def on_the_cpu(emulated, monkeypatch):
    monkeypatch.setattr(library, 'PATH', emulated)
    monkeypatch.setattr(library, 'DEVICE', 'cpu')
    assert not library.load(emulated)[1]


def close(found, expected, names, dtype, scales=None):
    for name, mine, truth in zip(names, found, expected, strict=True):
        assert mine.shape == truth.shape
        largest = float(truth.abs().max()) if truth.numel() else 0.0
        largest = max(largest, (scales or {}).get(name, 0.0), 1e-2)
        torch.testing.assert_close(
            mine.double(),
            truth.double(),
            rtol=0,
            atol=TOLERANCE[dtype] * largest,
            msg=lambda message, name=name: f'{name}: {message}',
        )


ATTENTION = {
    'two heads': ((27, 6), 2, 32, 8, 6, 5.0),
    'three heads of 16': ((13, 0, 9), 3, 16, 8, 6, 0.3),
    'four heads of 24, no clamp': ((18,), 4, 24, 8, 4, None),
    'wide head': ((19,), 1, 64, 8, 6, 5.0),
    'small head': ((19,), 2, 8, 5, 3, 5.0),
    'clusters of two tiles': ((35,), 2, 32, 11, 3, 5.0),
    'one token': ((1,), 2, 32, 8, 6, 5.0),
    'no tokens': ((0,), 2, 32, 8, 6, 5.0),
}


@pytest.mark.parametrize(
    'case, dtype',
    [
        *((case, torch.float32) for case in ATTENTION),
        *(('two heads', dtype) for dtype in DTYPES[1:]),
        ('wide head', torch.float16),
        ('small head', torch.bfloat16),
    ],
    ids=str,
)
def test_cluster_attention(case, dtype):
    tensors, hood, clamp = test_cpu_cluster_attention.make(*ATTENTION[case])
    assert not attention.unsupported(tensors[0].to(dtype), hood.neighbors.shape[1])
    tensors = [t.to(dtype) if i < 2 else t for i, t in enumerate(tensors)]
    grad_out = torch.randn(tensors[0].shape).to(dtype)
    size = math.inf if clamp is None else clamp
    hooded = (hood.xy, hood.start, hood.neighbors, hood.cluster_size, size)
    with poisoned():
        out, lse = attention.compute_forward(*tensors, *hooded)
        grads = attention.compute_backward(grad_out, out, lse, *tensors, *hooded)
    double = [t.double().requires_grad_() for t in tensors]
    truth = ref_attention.cluster_attention(*double, hood, clamp)
    expected = torch.autograd.grad(truth, double, grad_out.double())
    names = ('out', *test_cpu_cluster_attention.NAMES)
    scale = {'bias_bias': float(expected[2].abs().max())}
    close((out, *grads), (truth.detach(), *expected), names, dtype, scale)


@pytest.mark.parametrize('ordered', [False, True], ids=['atomics', 'deterministic'])
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize(
    'sizes',
    [
        (31, 13, 2, 2, 32, 3, 4, 4, 3.0),
        (17, 5, 1, 3, 24, 1, 3, 5, 1.7),
        (9, 7, 2, 1, 64, 2, 1, 9, 2.0),
        (5, 0, 1, 2, 8, 2, 2, 4, 3.0),
        (0, 5, 1, 2, 8, 2, 2, 4, 3.0),
    ],
    ids=str,
)
def test_point_deform_attention(sizes, dtype, ordered):
    tensors, (centers, nearest, batch) = test_cpu_point_deform_attention.make(*sizes)
    value, location, weight, power = tensors
    value = value.to(dtype)
    assert not deform.unsupported(value)
    inputs = (value, centers, nearest, batch, location, weight, power, 0.01, 1e-6)
    grad_out = torch.randn(len(batch), *value.shape[1:]).to(dtype)
    was = torch.are_deterministic_algorithms_enabled()
    try:
        torch.use_deterministic_algorithms(ordered)
        out = deform.compute_forward(*inputs)
        grads = deform.compute_backward(grad_out, *inputs)
    finally:
        torch.use_deterministic_algorithms(was)
    double = [t.double().requires_grad_() for t in (value, location, weight, power)]
    function = test_cpu_point_deform_attention.call(ref_deform, (centers, nearest, batch))
    truth = function(*double)
    expected = torch.autograd.grad(truth, double, grad_out.double())
    names = ('out', *test_cpu_point_deform_attention.NAMES)
    scale = test_cpu_point_deform_attention.terms(double, (centers, nearest, batch), function)
    close((out, *grads), (truth.detach(), *expected), names, dtype, {'power': scale})


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize(
    'sizes',
    [(20, 15, 9, 4, 64), (20, 15, 4, 1, 32), (9, 7, 3, 6, 21), (0, 4, 3, 4, 8), (5, 0, 3, 4, 8)],
    ids=str,
)
def test_neighborhood_merge(sizes, dtype):
    (feats, weights), rows = test_cpu_neighborhood_merge.make(*sizes)
    feats, weights = feats.to(dtype), weights.to(dtype)
    grad_out = torch.randn(len(rows), weights.shape[2], feats.shape[1]).to(dtype)
    with poisoned():
        out = merge.compute_forward(feats, rows, weights)
        grads = merge.compute_backward(grad_out, feats, rows, weights)
    double = [t.double().requires_grad_() for t in (feats, weights)]
    truth = ref_merge.neighborhood_merge(double[0], rows, double[1])
    expected = torch.autograd.grad(truth, double, grad_out.double())
    close((out, *grads), (truth.detach(), *expected), ('out', 'feats', 'weights'), dtype)


@pytest.mark.parametrize('lengths', [(40, 7, 123), (1,), (0, 9), (300, 5)], ids=str)
@pytest.mark.parametrize('canvas', [(24, 40), (1, 1), (3, 90)], ids=str)
def test_clusters(lengths, canvas):
    xy, batch, counts = mixed_places(lengths, canvas)
    found = places.compute_balanced(xy, batch, counts, *canvas, 8)
    order, start = ref_clusters.balanced_clusters(xy, batch, counts, canvas, 8)
    assert torch.equal(found[0], order) and torch.equal(found[1], start)
    clustered = xy[order].contiguous()
    clusters = [-(-length // 8) for length in lengths]
    centers = places.cluster_centers(clustered, start)[: sum(clusters)]
    width = min(6, len(start) - 1)
    nearest = places.compute_nearest(clustered, list(lengths), centers, clusters, width)
    assert torch.equal(nearest, ref_clusters.nearest_clusters(clustered, start, lengths, 8, 6))


@pytest.mark.parametrize('k', [1, 3, 9, 16])
def test_nearest_tokens(k):
    torch.manual_seed(k)
    lengths, counts = (150, 2, 0, 40), (30, 20, 5, 40)
    centers = torch.randint(0, 60, (sum(lengths), 2)) / 2
    at = torch.randint(-20, 160, (sum(counts), 2)) / 4
    found = places.compute_nearest(at, list(counts), centers, list(lengths), k)
    assert torch.equal(found, ref_nearest.nearest_tokens(at, counts, centers, lengths, k))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.uint8], ids=str)
def test_patches(dtype):
    image = (torch.randn(2, 3, 16, 24) * 50).to(dtype)
    xy = torch.tensor([[2, 0], [4, 2], [0, 2], [2, 0]], dtype=torch.int32)
    batch = torch.tensor([1, 0, 1, 0])
    found = places.compute_patches(image, xy, batch, 8)
    assert torch.equal(found, ref_patches.gather_patches(image, xy, batch, 8))


def test_backward_of_patches_is_that_of_the_reference():
    image = torch.randn(2, 3, 16, 24, requires_grad=True)
    xy = torch.tensor([[2, 0], [4, 2], [0, 2], [2, 0]], dtype=torch.int32)
    batch = torch.tensor([1, 0, 1, 1])
    grad_out = torch.randn(4, 192)
    (expected,) = torch.autograd.grad(
        ref_patches.gather_patches(image, xy, batch, 8), image, grad_out
    )

    class Context:
        saved_tensors, image_shape, patch_size = (xy, batch), (2, 3, 16, 24), 8

    torch.testing.assert_close(places._autograd(Context, grad_out)[0], expected)


def test_sizes_that_there_are_not_are_named():
    q = torch.zeros(1, 2, 72)
    assert attention.unsupported(q, 6) == 'heads of 72 channels, multiples of 4 up to 64 on CUDA'
    assert '9 neighbour clusters' in attention.unsupported(q[..., :8], 9)
    assert 'heads of 6 channels' in deform.unsupported(q[..., :6])
    assert '17 neighbours' in places.unsupported(17)
    tensors, hood, _ = test_cpu_cluster_attention.make((9,), 2, 6)
    hooded = (hood.xy, hood.start, hood.neighbors, 8, 5.0)
    with pytest.raises(ValueError, match='arta_cluster_attention does not have these sizes'):
        attention.compute_forward(*tensors, *hooded)
    with pytest.raises(ValueError, match=r'xy: expected a contiguous torch.int32'):
        attention.compute_forward(*tensors, hood.xy.long(), *hooded[1:])
