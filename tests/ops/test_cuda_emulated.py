"""CUDA kernels on the CPU against the reference: what they compute, not how fast."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from mmseg_arta.ops.cuda import cluster_attention as attention
from mmseg_arta.ops.cuda import library, places
from mmseg_arta.ops.cuda import point_deform_attention as deform
from mmseg_arta.ops.native.problems import Target
from mmseg_arta.ops.reference import cluster_attention as ref_attention
from mmseg_arta.ops.reference import clusters as ref_clusters
from mmseg_arta.ops.reference import nearest_tokens as ref_nearest
from mmseg_arta.ops.reference import neighborhood_merge as ref_merge
from mmseg_arta.ops.reference import patches as ref_patches
from mmseg_arta.ops.reference import point_deform_attention as ref_deform
from mmseg_arta.ops.registered import places as registered_places
from tests.helpers import mixed_places
from tests.ops import (
    precision,
    test_cpu_cluster_attention,
    test_cpu_neighborhood_merge,
    test_cpu_patches,
    test_cpu_point_deform_attention,
)
from tests.ops.cpu_cases import run
from tests.ops.emulated_cuda import compile_for_the_cpu
from tests.ops.kernels import cuda

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
TOLERANCE = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 4e-2}


@pytest.fixture(scope='module')
def emulated(tmp_path_factory):
    return compile_for_the_cpu(tmp_path_factory.mktemp('emulated'))


@pytest.fixture(autouse=True)
def on_the_cpu(emulated, monkeypatch):
    monkeypatch.setattr(library, 'PATH', emulated)
    monkeypatch.setattr(library, 'TARGET', Target('cpu', library.TARGET.types))
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
    found = run(lambda *t: cuda.cluster_attention(*t, hood, clamp), tensors, grad_out)
    double = [t.double().requires_grad_() for t in tensors]
    truth = ref_attention.cluster_attention(*double, hood, clamp)
    expected = torch.autograd.grad(truth, double, grad_out.double())
    names = ('out', *test_cpu_cluster_attention.NAMES)
    scale = {'bias_bias': float(expected[2].abs().max())}
    close(found, (truth.detach(), *expected), names, dtype, scale)


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
    tensors, hood = test_cpu_point_deform_attention.make(*sizes)
    tensors[0] = tensors[0].to(dtype)
    assert not deform.unsupported(tensors[0])
    grad_out = torch.randn(len(hood[2]), *tensors[0].shape[1:]).to(dtype)
    found = run(
        test_cpu_point_deform_attention.call(cuda, hood), tensors, grad_out, deterministic=ordered
    )
    double = [t.double().requires_grad_() for t in tensors]
    function = test_cpu_point_deform_attention.call(ref_deform, hood)
    truth = function(*double)
    expected = torch.autograd.grad(truth, double, grad_out.double())
    names = ('out', *test_cpu_point_deform_attention.NAMES)
    scale = test_cpu_point_deform_attention.terms(double, hood, function)
    close(found, (truth.detach(), *expected), names, dtype, {'power': scale})


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
    found = run(test_cpu_neighborhood_merge.call(cuda, rows), (feats, weights), grad_out)
    double = [t.double().requires_grad_() for t in (feats, weights)]
    truth = ref_merge.neighborhood_merge(double[0], rows, double[1])
    expected = torch.autograd.grad(truth, double, grad_out.double())
    close(found, (truth.detach(), *expected), ('out', 'feats', 'weights'), dtype)


@pytest.mark.parametrize('lengths', [(40, 7, 123), (1,), (0, 9), (300, 5)], ids=str)
@pytest.mark.parametrize('canvas', [(24, 40), (1, 1), (3, 90)], ids=str)
def test_clusters(lengths, canvas):
    xy, batch, counts = mixed_places(lengths, canvas)
    found = cuda.balanced_clusters(xy, batch, counts, canvas, 8)
    order, start = ref_clusters.balanced_clusters(xy, batch, counts, canvas, 8)
    assert torch.equal(found[0], order) and torch.equal(found[1], start)
    clustered = xy[order]
    nearest = cuda.nearest_clusters(clustered, start, lengths, 8, 6)
    assert torch.equal(nearest, ref_clusters.nearest_clusters(clustered, start, lengths, 8, 6))


@pytest.mark.parametrize('k', [1, 3, 9, 16])
def test_nearest_tokens(k):
    torch.manual_seed(k)
    lengths, counts = (150, 2, 0, 40), (30, 20, 5, 40)
    centers = torch.randint(0, 60, (sum(lengths), 2)) / 2
    at = torch.randint(-20, 160, (sum(counts), 2)) / 4
    found = registered_places.nearest_tokens(at, centers, counts, lengths, k, 'cuda')
    assert torch.equal(found, ref_nearest.nearest_tokens(at, counts, centers, lengths, k))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.uint8], ids=str)
def test_patches(dtype):
    image = (torch.randn(2, 3, 16, 24) * 50).to(dtype)
    xy = torch.tensor([[2, 0], [4, 2], [0, 2], [2, 0]], dtype=torch.int32)
    batch = torch.tensor([1, 0, 1, 0])
    found = cuda.gather_patches(image, xy, batch, 8)
    assert torch.equal(found, ref_patches.gather_patches(image, xy, batch, 8))


def test_patches_outside_the_image_are_not_read():
    image = torch.randn(1, 3, 16, 16)
    xy = torch.tensor([[4, 0], [0, -2], [0, 0], [0, 0]], dtype=torch.int32)
    found = cuda.gather_patches(image, xy, torch.tensor([0, 0, 1, -1]), 8)
    assert not found.any()


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('total', [0, 1, 40])
def test_backward_of_patches(total, dtype):
    # Many occur several times; their sum has one order.
    image, *places = test_cpu_patches.make(2, 3, 2, 3, 8, total)
    grad_out = torch.randn(total, 192).to(dtype)
    found, again = (
        run(lambda leaf: cuda.gather_patches(leaf, *places), [image.to(dtype)], grad_out)[1]
        for _ in range(2)
    )
    double = image.double().requires_grad_()
    truth = ref_patches.gather_patches(double, *places)
    (expected,) = torch.autograd.grad(truth, double, grad_out.double())
    close([found], [expected], ['image'], dtype)
    assert torch.equal(found, again)


@pytest.mark.parametrize('dtype', precision.HALVES, ids=str)
@pytest.mark.parametrize('op', precision.SMALL)
def test_half_types_err_at_most_twice_as_much_as_plain_pytorch(op, dtype, monkeypatch):
    # The door's conversions are those for a GPU.
    door = sys.modules[f'mmseg_arta.ops.{op}']
    monkeypatch.setattr(door, 'chosen_backend', lambda *arguments: 'cuda')
    precision.check(*precision.SMALL[op](), dtype)


def test_sizes_that_there_are_not_are_named():
    q = torch.zeros(1, 2, 72)
    assert attention.unsupported(q, 6) == 'heads of 72 channels, multiples of 4 up to 64 on CUDA'
    assert '9 neighbour clusters' in attention.unsupported(q[..., :8], 9)
    assert 'heads of 6 channels' in deform.unsupported(q[..., :6])
    assert '17 neighbours' in places.unsupported(17)
    tensors, hood, _ = test_cpu_cluster_attention.make((9,), 2, 6)
    with pytest.raises(ValueError, match='arta_cluster_attention does not have these sizes'):
        cuda.cluster_attention(*tensors, hood, 5.0)
    with pytest.raises(ValueError, match=r'xy: expected a contiguous torch.int32'):
        cuda.cluster_attention(*tensors, replace(hood, xy=hood.xy.long()), 5.0)
