"""The back ends for GPUs on a GPU, against the reference in double precision."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch

from mmseg_arta.ops import (
    available_backends,
    balanced_clusters,
    build_neighborhood,
    cluster_attention,
    gather_patches,
    nearest_tokens,
    neighborhood_merge,
    point_deform_attention,
)
from mmseg_arta.ops.reference import cluster_attention as ref_attention
from mmseg_arta.ops.reference import clusters as ref_clusters
from mmseg_arta.ops.reference import nearest_tokens as ref_nearest
from mmseg_arta.ops.reference import neighborhood_merge as ref_merge
from mmseg_arta.ops.reference import patches as ref_patches
from mmseg_arta.ops.reference import point_deform_attention as ref_deform
from mmseg_arta.structures import TokenSet, offsets_from_lengths
from tests.helpers import mixed_places
from tests.ops import test_cpu_neighborhood_merge, test_cpu_point_deform_attention

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')

CANVAS = (128, 200)
TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}
dtypes = pytest.mark.parametrize('dtype', TOLERANCE, ids=str)


@pytest.fixture(params=['cuda', 'triton'])
def backend(request, monkeypatch):
    reason = available_backends()[request.param]
    if reason:
        pytest.skip(f'{request.param}: {reason}')
    if os.environ.get('TRITON_INTERPRET') == '1':
        pytest.skip('on the GPU, not in the interpreter')
    monkeypatch.setenv('MMSEG_ARTA_OPS', request.param)
    return request.param


def check(function, truth, tensors, dtype, sums=()):
    """Output and gradients; ``sums`` are those that nearly cancel."""
    leaves = [t.detach().cuda().requires_grad_() for t in tensors]
    double = [t.detach().cpu().double().requires_grad_() for t in tensors]
    expected = truth(*double)
    grad_out = torch.randn(expected.shape, dtype=torch.float64).to(dtype)
    out = function(*leaves)
    grads = torch.autograd.grad(out, leaves, grad_out.cuda())
    again = torch.autograd.grad(function(*leaves), leaves, grad_out.cuda())
    exact = torch.autograd.grad(expected, double, grad_out.double())
    for index, (mine, right) in enumerate(zip((out, *grads), (expected, *exact), strict=True)):
        largest = max(float(right.abs().max()) if right.numel() else 0.0, 1e-2)
        scale = 10 if index - 1 in sums else 1
        torch.testing.assert_close(
            mine.double().cpu(),
            right.detach(),
            rtol=0,
            atol=TOLERANCE[dtype] * largest * scale,
            msg=lambda message, index=index: f'{index}: {message}',
        )
    return grads, again


@dtypes
@pytest.mark.parametrize(
    'lengths, heads, dim, size, width',
    [
        ((700, 1, 0, 211), 2, 32, 8, 6),
        ((1009,), 8, 32, 8, 6),
        ((300, 90), 3, 16, 8, 6),
        ((301,), 1, 64, 8, 4),
        ((301,), 5, 24, 8, 6),
        ((260,), 2, 32, 11, 3),
        ((0,), 2, 32, 8, 6),
        ((1,), 2, 32, 8, 6),
    ],
    ids=str,
)
def test_cluster_attention(backend, lengths, heads, dim, size, width, dtype):
    torch.manual_seed(0)
    xy, batch, counts = mixed_places(lengths, CANVAS)
    on_gpu = build_neighborhood(
        xy.cuda(), batch.cuda(), counts.cuda(), lengths, CANVAS, size, width
    )
    tensors = {
        name: value.cpu() for name, value in vars(on_gpu).items() if isinstance(value, torch.Tensor)
    }
    places = replace(on_gpu, **tensors)
    order, start = ref_clusters.balanced_clusters(xy, batch, counts, CANVAS, size)
    assert torch.equal(places.order, order) and torch.equal(places.start, start)
    nearest = ref_clusters.nearest_clusters(places.xy, start, lengths, size, width)
    assert torch.equal(places.neighbors, nearest)
    total = sum(lengths)
    shapes = (total, heads, dim), (total, heads, 2, dim)
    tensors = [torch.randn(shape).to(dtype) for shape in shapes]
    tensors += [torch.randn(heads, 5) * 0.2, torch.randn(heads)]
    tensors += [torch.randn(heads, dim), torch.randn(heads, dim)]
    grads, again = check(
        lambda *t: cluster_attention(*t, on_gpu),
        lambda *t: ref_attention.cluster_attention(*t, places, 5.0),
        tensors,
        dtype,
        sums=(2, 3),
    )
    assert all(map(torch.equal, grads, again))


@dtypes
def test_point_deform_attention(backend, dtype):
    sizes = (500, 300, 2, 8, 32, 3, 4, 4, 3.0)
    tensors, places = test_cpu_point_deform_attention.make(*sizes)
    centers, nearest, batch = places
    tensors[0] = tensors[0].to(dtype)
    on_gpu = [t.cuda() for t in (centers, nearest, batch)]

    def function(value, location, weight, power):
        return point_deform_attention(value, *on_gpu, location, weight, power)

    truth = test_cpu_point_deform_attention.call(ref_deform, places)
    check(function, truth, tensors, dtype, sums=(3,))
    torch.use_deterministic_algorithms(True)
    try:
        grads, again = check(function, truth, tensors, dtype, sums=(3,))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(map(torch.equal, grads, again))


@dtypes
@pytest.mark.parametrize('sizes', [(900, 700, 9, 4, 256), (50, 33, 4, 1, 37)], ids=str)
def test_neighborhood_merge(backend, sizes, dtype):
    tensors, rows = test_cpu_neighborhood_merge.make(*sizes)
    on_gpu = rows.cuda()
    grads, again = check(
        lambda feats, weights: neighborhood_merge(feats, on_gpu, weights),
        lambda feats, weights: ref_merge.neighborhood_merge(feats, rows, weights),
        [t.to(dtype) for t in tensors],
        dtype,
    )
    assert all(map(torch.equal, grads, again))


@pytest.mark.parametrize('lengths', [(4000, 7, 0, 1203), (1,)], ids=str)
def test_places(backend, lengths):
    xy, batch, counts = mixed_places(lengths, CANVAS)
    found = balanced_clusters(xy.cuda(), batch.cuda(), counts.cuda(), CANVAS)
    expected = ref_clusters.balanced_clusters(xy, batch, counts, CANVAS, 8)
    assert all(torch.equal(a.cpu(), b) for a, b in zip(found, expected, strict=True))
    order = batch.argsort(stable=True)
    offsets = offsets_from_lengths(lengths, torch.device('cuda'))
    level = TokenSet(
        torch.zeros(len(xy), 1, device='cuda'), xy[order].cuda(), offsets, lengths, 4, CANVAS
    )
    near = nearest_tokens(level.centers(), lengths, level, 4).rows
    centers = level.centers().cpu()
    truth = ref_nearest.nearest_tokens(centers, lengths, centers, lengths, 4)
    assert torch.equal(near.cpu(), truth)


def test_patches(backend):
    image = torch.randn(2, 3, 64, 96)
    xy = torch.randint(0, 8, (50, 2)).int() * 2
    batch = torch.randint(0, 2, (50,))
    found = gather_patches(image.cuda(), xy.cuda(), batch.cuda(), 8)
    assert torch.equal(found.cpu(), ref_patches.gather_patches(image, xy, batch, 8))


@dtypes
def test_compiles_into_one_graph(backend, dtype):
    lengths = (90, 31)
    xy, batch, counts = mixed_places(lengths, CANVAS)
    hood = build_neighborhood(xy.cuda(), batch.cuda(), counts.cuda(), lengths, CANVAS)
    q, kv = torch.randn(121, 2, 32).to(dtype).cuda(), torch.randn(121, 2, 2, 32).to(dtype).cuda()
    rest = [torch.randn(s).cuda() for s in ((2, 5), (2,), (2, 32), (2, 32))]
    compiled = torch.compile(
        lambda *t: cluster_attention(*t, hood) * 2, fullgraph=True, backend='aot_eager'
    )
    torch.testing.assert_close(compiled(q, kv, *rest), cluster_attention(q, kv, *rest, hood) * 2)
