"""The back ends for GPUs on a GPU, against the reference in double precision."""

from __future__ import annotations

import importlib
import os

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
from mmseg_arta.ops.backend import OPS
from mmseg_arta.ops.balanced_clusters import kernels as balanced_kernels
from mmseg_arta.ops.balanced_clusters import reference as ref_balanced
from mmseg_arta.ops.cluster_attention import kernels as attention_kernels
from mmseg_arta.ops.cluster_attention import reference as ref_attention
from mmseg_arta.ops.gather_patches import kernels as patch_kernels
from mmseg_arta.ops.gather_patches import reference as ref_patches
from mmseg_arta.ops.nearest_clusters import kernels as cluster_kernels
from mmseg_arta.ops.nearest_clusters import reference as ref_clusters
from mmseg_arta.ops.nearest_tokens import kernels as token_kernels
from mmseg_arta.ops.nearest_tokens import reference as ref_nearest
from mmseg_arta.ops.neighborhood_merge import kernels as merge_kernels
from mmseg_arta.ops.neighborhood_merge import reference as ref_merge
from mmseg_arta.ops.point_deform_attention import kernels as deform_kernels
from mmseg_arta.ops.point_deform_attention import reference as ref_deform
from mmseg_arta.structures import TokenSet, offsets_from_lengths
from tests.helpers import mixed_places
from tests.ops import precision
from tests.ops.inputs import (
    attention_inputs,
    deform_call,
    deform_inputs,
    merge_inputs,
    patch_inputs,
)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')

DEVICE = 'cuda'
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
    if request.param == 'triton':
        use_first_choice(monkeypatch)
    return request.param


@pytest.fixture(autouse=True)
def fresh_compiler():
    # Graphs keep the back end that was chosen when they were made.
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def use_first_choice(monkeypatch):
    """Tuning compiles every kernel several times for each size: only one test does it."""
    for op in precision.SMALL:
        module = importlib.import_module(f'mmseg_arta.ops.{op}.triton_kernels')
        for kernel in vars(module).values():
            if hasattr(kernel, 'configs'):
                monkeypatch.setattr(kernel, 'configs', kernel.configs[:1])


def check(function, truth, tensors, dtype, sums=()):
    """Output and gradients; ``sums`` are those that nearly cancel."""
    leaves = [t.detach().to(DEVICE).requires_grad_() for t in tensors]
    double = [t.detach().cpu().double().requires_grad_() for t in tensors]
    expected = truth(*double)
    grad_out = torch.randn(expected.shape, dtype=torch.float64).to(dtype)
    out = function(*leaves)
    grads = torch.autograd.grad(out, leaves, grad_out.to(DEVICE))
    again = torch.autograd.grad(function(*leaves), leaves, grad_out.to(DEVICE))
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
        xy.to(DEVICE), batch.to(DEVICE), counts.to(DEVICE), lengths, CANVAS, size, width
    )
    places = precision.moved(on_gpu, 'cpu')
    order, start = ref_balanced.balanced_clusters(xy, batch, counts, CANVAS, size)
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
    tensors, places = deform_inputs(*sizes)
    centers, nearest, batch = places
    tensors[0] = tensors[0].to(dtype)
    on_gpu = [t.to(DEVICE) for t in (centers, nearest, batch)]

    def function(value, location, weight, power):
        return point_deform_attention(value, *on_gpu, location, weight, power)

    truth = deform_call(ref_deform, places)
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
    tensors, rows = merge_inputs(*sizes)
    on_gpu = rows.to(DEVICE)
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
    found = balanced_clusters(xy.to(DEVICE), batch.to(DEVICE), counts.to(DEVICE), CANVAS)
    expected = ref_balanced.balanced_clusters(xy, batch, counts, CANVAS, 8)
    assert all(torch.equal(a.cpu(), b) for a, b in zip(found, expected, strict=True))
    order = batch.argsort(stable=True)
    offsets = offsets_from_lengths(lengths, torch.device(DEVICE))
    level = TokenSet(
        torch.zeros(len(xy), 1, device=DEVICE), xy[order].to(DEVICE), offsets, lengths, 4, CANVAS
    )
    near = nearest_tokens(level.centers(), lengths, level, 4).rows
    centers = level.centers().cpu()
    truth = ref_nearest.nearest_tokens(centers, lengths, centers, lengths, 4)
    assert torch.equal(near.cpu(), truth)


@pytest.mark.parametrize('dtype', [*TOLERANCE, torch.uint8], ids=str)
def test_patches(backend, dtype):
    image, xy, batch, size = patch_inputs(2, 3, 6, 9, 8, 90)
    image = (image * 50).to(dtype)
    places = xy.to(DEVICE), batch.to(DEVICE), size
    found = gather_patches(image.to(DEVICE), *places)
    assert torch.equal(found.cpu(), ref_patches.gather_patches(image, xy, batch, size))
    if dtype.is_floating_point:
        grads, again = check(
            lambda image: gather_patches(image, *places),
            lambda image: ref_patches.gather_patches(image, xy, batch, size),
            [image],
            dtype,
        )
        assert all(map(torch.equal, grads, again))


@pytest.mark.parametrize('dtype', precision.HALVES, ids=str)
@pytest.mark.parametrize('op', precision.SMALL)
def test_half_types_err_at_most_twice_as_much_as_plain_pytorch(backend, op, dtype):
    precision.check(*precision.SMALL[op](DEVICE), dtype)


def registered_calls():
    """Arguments of the registered ops, without the back end: forward, and which have gradients."""
    tensors, hood, _ = attention_inputs((50, 31), 2, 32)
    at = (hood.xy, hood.start, hood.neighbors, 8, 5.0)
    yield 'cluster_attention', attention_kernels, (*tensors, *at), range(6)
    sizes = (50, 31, 2, 2, 16, 2, 2, 4, 3.0)
    (value, *rest), places = deform_inputs(*sizes)
    given = (value, *places, *rest, 0.01, 1e-6)
    yield 'point_deform_attention', deform_kernels, given, (0, 4, 5, 6)
    (feats, weights), rows = merge_inputs(50, 31, 9, 4, 64)
    yield 'neighborhood_merge', merge_kernels, (feats, rows, weights), (0, 2)
    patches = patch_inputs(2, 3, 3, 5, 8, 11)
    yield 'gather_patches', patch_kernels, patches, (0,)


def to_gpu(arguments):
    return tuple(t.to(DEVICE) if isinstance(t, torch.Tensor) else t for t in arguments)


@pytest.mark.parametrize('op', ['forward', 'backward'])
def test_opcheck(backend, op):
    for name, module, arguments, wanted in registered_calls():
        if backend not in OPS[name]:
            continue
        given = (*to_gpu(arguments), backend)
        if op == 'forward':
            leaves = (t.requires_grad_() if i in wanted else t for i, t in enumerate(given))
            torch.library.opcheck(module.forward, tuple(leaves))
            continue
        results = module.forward(*given)
        results = results if isinstance(results, tuple) else (results,)
        kept = results if name == 'cluster_attention' else ()
        if name == 'gather_patches':
            image, *given = given
            given = (*given[:2], *image.shape, *given[2:])
        given = (torch.randn_like(results[0]), *kept, *given)
        torch.library.opcheck(module.backward, given)


def test_opcheck_of_places(backend):
    if backend == 'triton':
        pytest.skip('Triton does not have these ops')
    xy, batch, counts = to_gpu(mixed_places((50, 31), CANVAS))
    torch.library.opcheck(balanced_kernels.forward, (xy, batch, counts, *CANVAS, 8, backend))
    order, start = balanced_kernels.forward(xy, batch, counts, *CANVAS, 8, backend)
    given = (xy[order], start, [50, 31], 8, 6, backend)
    torch.library.opcheck(cluster_kernels.forward, given)
    given = (xy.double(), xy.double(), [50, 31], [50, 31], 4, backend)
    torch.library.opcheck(token_kernels.forward, given)


@dtypes
@pytest.mark.parametrize('op', precision.SMALL)
def test_compiles_into_one_graph(backend, op, dtype):
    function, _, tensors = precision.SMALL[op](DEVICE)
    tensors = [t.to(dtype).requires_grad_() for t in tensors]
    compiled = torch.compile(lambda *t: function(*t) * 2, fullgraph=True, backend='aot_eager')
    found, expected = compiled(*tensors), function(*tensors) * 2
    torch.testing.assert_close(found, expected)
    grad_out = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, tensors, grad_out),
        torch.autograd.grad(expected, tensors, grad_out),
    )


def test_patches_and_places_compile_into_one_graph(backend):
    if backend == 'triton':
        pytest.skip('Triton does not have these ops')
    xy, batch, counts = to_gpu(mixed_places((90, 31), (16, 24)))
    image = torch.randn(2, 3, 64, 96).to(DEVICE)

    def function(image, xy, batch):
        hood = build_neighborhood(xy, batch, counts, (90, 31), (16, 24))
        return hood.order, hood.neighbors, gather_patches(image, xy, batch, 4)

    compiled = torch.compile(function, fullgraph=True, backend='aot_eager')
    found, expected = compiled(image, xy, batch), function(image, xy, batch)
    assert all(map(torch.equal, found, expected))


def test_tuning(monkeypatch):
    if available_backends()['triton']:
        pytest.skip(available_backends()['triton'])
    monkeypatch.setenv('MMSEG_ARTA_OPS', 'triton')
    for op in precision.SMALL:
        precision.check(*precision.SMALL[op](DEVICE), torch.float16)
