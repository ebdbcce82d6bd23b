"""Cluster attention against its definition, and every back end against the reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mmseg_arta.ops import (
    build_neighborhood,
    cluster_attention,
    library,
)
from mmseg_arta.ops.cluster_attention import kernels, reference
from tests.helpers import mixed_places
from tests.ops.helpers import (
    DTYPES,
    assert_close,
    compare,
    instruction_set,
    interpreted,
    run,
)
from tests.ops.inputs import ATTENTION_INPUTS, attention_inputs
from tests.ops.kernels import cpu, cuda

CANVAS = (24, 40)


def small_inputs(lengths, heads=2, dim=8, neighbors=3, dtype=torch.float64):
    xy, batch, counts = mixed_places(lengths, CANVAS)
    hood = build_neighborhood(xy, batch, counts, lengths, CANVAS, num_neighbors=neighbors)
    total = sum(lengths)
    tensors = [
        torch.randn(shape, dtype=dtype, requires_grad=True)
        for shape in (
            (total, heads, dim),
            (total, heads, 2, dim),
            (heads, 5),
            (heads,),
            (heads, dim),
            (heads, dim),
        )
    ]
    return tensors, hood


def plain(q, kv, weight, bias, blank_k, blank_v, hood, clamp=5.0):
    """The definition, token by token."""
    out = []
    for row in range(q.shape[0]):
        members = [
            m
            for c in hood.neighbors[row].tolist()
            if c >= 0
            for m in range(int(hood.start[c]), int(hood.start[c + 1]))
        ]
        delta = (hood.xy[members] - hood.xy[row]).to(q.dtype)
        dist = delta.norm(dim=1)
        sin = torch.where(dist > 0, delta[:, 1] / dist, 0)
        cos = torch.where(dist > 0, delta[:, 0] / dist, 0)
        feats = torch.stack((delta[:, 0], delta[:, 1], dist, sin, cos), 1)
        scaled = q[row] / q.shape[2] ** 0.5
        logits = torch.einsum('hd,mhd->mh', scaled, kv[members, :, 0]) + feats @ weight.T + bias
        blank = (scaled * blank_k).sum(-1)
        blank = blank if clamp is None else blank.clamp(-clamp, clamp)
        p = torch.cat((logits, blank[None])).softmax(0)
        out.append(torch.einsum('mh,mhd->hd', p[:-1], kv[members, :, 1]) + p[-1][:, None] * blank_v)
    return torch.stack(out)


@pytest.mark.parametrize('lengths', [(40, 7, 63), (1,), (0, 9), (9, 8)], ids=str)
@pytest.mark.parametrize('clamp', [5.0, 0.1, None])
def test_matches_the_definition(lengths, clamp):
    tensors, hood = small_inputs(lengths)
    found = cluster_attention(*tensors, hood, blank_clamp=clamp)
    torch.testing.assert_close(found, plain(*tensors, hood, clamp=clamp))


def test_gradients():
    tensors, hood = small_inputs((11, 2), heads=1, dim=2, neighbors=2)
    torch.autograd.gradcheck(lambda *t: cluster_attention(*t, hood), tensors)


def test_no_tokens_still_reach_every_parameter():
    tensors, hood = small_inputs((0, 0))
    out = cluster_attention(*tensors, hood)
    assert out.shape == (0, 2, 8)
    out.sum().backward()
    assert all(t.grad is not None and not t.grad.any() for t in tensors)


def test_an_image_does_not_see_another():
    tensors, hood = small_inputs((30, 30))
    before = cluster_attention(*tensors, hood)
    with torch.no_grad():
        tensors[1][30:] += 1  # keys and values of the second image
    after = cluster_attention(*tensors, hood)
    assert torch.equal(before[:30], after[:30]) and not torch.equal(before[30:], after[30:])


@pytest.mark.parametrize('backend', ['reference', 'cpu'])
def test_parameters_may_have_more_digits(backend, cpu_kernels, monkeypatch):
    tensors, hood = small_inputs((30,))
    expected = cluster_attention(*tensors, hood)
    monkeypatch.setenv('MMSEG_ARTA_OPS', backend)
    q, kv, *rest = tensors
    found = cluster_attention(q.bfloat16(), kv.bfloat16(), *(t.float() for t in rest), hood)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=0.2)


def test_shapes_are_checked():
    tensors, hood = small_inputs((9,))
    with pytest.raises(ValueError, match='kv must be'):
        cluster_attention(tensors[0], tensors[1][:, :, :1], *tensors[2:], hood)
    with pytest.raises(ValueError, match='neighborhood holds 9 tokens'):
        cluster_attention(tensors[0][:8], tensors[1][:8], *tensors[2:], hood)


INSTRUCTIONS = ('base', 'avx2', 'avx512')

# lengths, heads, dim, cluster size, clusters per token, bound on the blank token's logit
CASES = {
    'two images': ((300, 211), 3, 16, 8, 6, 5.0),
    'unequal images': ((97, 1, 0, 41), 2, 8, 8, 6, 5.0),
    'head dim 24, no clamp': ((131,), 5, 24, 8, 6, None),
    'head dim 32, 8 heads': ((67, 5), 8, 32, 8, 6, 5.0),
    'tight clamp': ((90,), 2, 16, 8, 4, 0.3),
    'odd head dim': ((83, 10), 2, 13, 8, 6, 5.0),
    'head dim below a vector': ((40,), 1, 3, 8, 6, 5.0),
    'wide head': ((50,), 1, 77, 8, 6, 5.0),
    'small clusters': ((101,), 2, 16, 5, 6, 5.0),
    'clusters of two tiles': ((101, 9), 2, 16, 11, 3, 5.0),
    'more neighbours than clusters': ((30, 6), 2, 8, 8, 9, 5.0),
    'one token': ((1,), 2, 16, 8, 6, 5.0),
    'thousands of tokens': ((5003, 0, 1009), 1, 8, 8, 6, 5.0),
    'no tokens': ((0, 0), 2, 16, 8, 6, 5.0),
}


def both_passes(function, tensors, hood, clamp, grad_out):
    """Output and gradients, poisoned wherever the kernel does not write."""
    tensors = [t.detach().requires_grad_() for t in tensors]
    was = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)  # new memory is filled with NaN
    try:
        out = function(*tensors, hood, clamp)
        grads = torch.autograd.grad(out, tensors, grad_out.to(out.dtype))
    finally:
        torch.use_deterministic_algorithms(was)
    return dict(zip(('out', *ATTENTION_INPUTS), (out.detach(), *grads), strict=True))


def check(tensors, hood, clamp, tolerance=1e-5):
    """C++ in float32 against the reference in float64, relative to each tensor's largest."""
    grad_out = torch.randn(tensors[0].shape)
    expected = both_passes(
        reference.cluster_attention, [t.double() for t in tensors], hood, clamp, grad_out
    )
    found = both_passes(cpu.cluster_attention, tensors, hood, clamp, grad_out)
    largest = {
        name: float(value.abs().max()) if value.numel() else 0.0 for name, value in expected.items()
    }
    # Gradients of biases are sums over all pairs that nearly cancel: measure by the larger one.
    largest['bias_bias'] = max(largest['bias_bias'], largest['bias_weight'])
    for name, value in expected.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(
            found[name].double(),
            value,
            rtol=0,
            atol=tolerance * max(largest[name], 1e-2),
            msg=lambda message, name=name: f'{name}: {message}',
        )


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize('instructions', INSTRUCTIONS)
@pytest.mark.parametrize('case', CASES)
def test_cpu_matches_the_reference(case, instructions):
    with instruction_set(instructions):
        assert library.cpu.describe().startswith(instructions)
        check(*attention_inputs(*CASES[case]))


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize('instructions', INSTRUCTIONS)
def test_cpu_large_logits(instructions):
    # Weights from 1 down to far below what float32 holds.
    with instruction_set(instructions):
        check(*attention_inputs((120,), 2, 16, scale=40.0), tolerance=1e-4)


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize('seed', range(60))
def test_cpu_random_sizes(seed):
    torch.manual_seed(seed)

    def draw(low, high):
        return int(torch.randint(low, high, ()))

    lengths = tuple(draw(0, 90) for _ in range(draw(1, 5)))
    check(*attention_inputs(lengths, draw(1, 9), draw(1, 40), draw(1, 18), draw(1, 9), seed=seed))


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_float64_gradients():
    tensors, hood, clamp = attention_inputs((11, 2), 1, 3, neighbors=2)
    tensors = [t.double().requires_grad_() for t in tensors]
    torch.autograd.gradcheck(lambda *t: cpu.cluster_attention(*t, hood, clamp), tensors)


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_autocast():
    tensors, hood, clamp = attention_inputs((60,), 2, 16)
    expected = cluster_attention(*tensors, hood, clamp)
    with torch.autocast('cpu', torch.bfloat16):
        mixed = [t.bfloat16() if i < 2 else t for i, t in enumerate(tensors)]
        found = cluster_attention(*mixed, hood, clamp)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.1)


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_strided_inputs():
    tensors, hood, clamp = attention_inputs((60,), 2, 16)
    grad_out = torch.randn(16, 2, 60).permute(2, 1, 0)
    strided = [torch.stack((t, t + 1), -1)[..., 0] for t in tensors]
    expected = both_passes(cpu.cluster_attention, tensors, hood, clamp, grad_out.contiguous())
    found = both_passes(cpu.cluster_attention, strided, hood, clamp, grad_out)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_results_do_not_depend_on_the_number_of_threads():
    tensors, hood, clamp = attention_inputs((900, 500), 2, 8)
    grad_out = torch.randn(1400, 2, 8)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(both_passes(cpu.cluster_attention, tensors, hood, clamp, grad_out))
    finally:
        torch.set_num_threads(before)
    assert all(
        torch.equal(result[name], value)
        for result in results[1:]
        for name, value in results[0].items()
    )


@pytest.mark.usefixtures('cpu_kernels')
def test_is_taken(monkeypatch):
    tensors, hood, clamp = attention_inputs((60,), 2, 16)
    monkeypatch.setattr(reference, 'cluster_attention', None)
    out = cluster_attention(*tensors, hood, clamp)
    assert torch.equal(out, cpu.cluster_attention(*tensors, hood, clamp))


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_no_gradient_for_frozen_parameters():
    tensors, hood, clamp = attention_inputs((60,), 2, 16)
    tensors[1].requires_grad_()
    cpu.cluster_attention(*tensors, hood, clamp).sum().backward()
    assert tensors[1].grad is not None and tensors[0].grad is None


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize('lengths', [(50, 31), (0,)], ids=str)
def test_cpu_opcheck(lengths):
    tensors, hood, _ = attention_inputs(lengths, 2, 8)
    places = cpu.places_of(hood, 5.0)
    leaves = (t.clone().requires_grad_() for t in tensors)
    torch.library.opcheck(kernels.forward, (*leaves, *places))
    out, lse = kernels.forward(*tensors, *places)
    given = (torch.randn_like(out), out, lse, *tensors, *places)
    torch.library.opcheck(kernels.backward, given)


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_compiles_into_one_graph():
    tensors, hood, clamp = attention_inputs((50, 31), 2, 8)
    compiled = torch.compile(
        lambda *t: cluster_attention(*t, hood, clamp) * 2, fullgraph=True, backend='aot_eager'
    )
    torch.testing.assert_close(compiled(*tensors), cluster_attention(*tensors, hood, clamp) * 2)


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_flops_are_counted():
    from torch.utils.flop_counter import FlopCounterMode

    tensors, hood, clamp = attention_inputs((50, 31), 2, 8)
    tensors[0].requires_grad_()
    with FlopCounterMode(display=False) as counter:
        out = cluster_attention(*tensors, hood, clamp)
        forward = counter.get_total_flops()
        out.sum().backward()
    pairs = 81 * 2 * (6 * 8 + 1)
    assert forward == pairs * 2 * (2 * 8 + 5)
    assert counter.get_total_flops() - forward == pairs * 2 * (5 * 8 + 2 * 5)


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_bad_inputs_are_named():
    tensors, hood, _ = attention_inputs((9,), 2, 8)
    places = cpu.places_of(hood, 5.0)
    with pytest.raises(ValueError, match=r'bias_weight: expected a contiguous torch.float32'):
        kernels.forward(*tensors[:2], tensors[2].double(), *tensors[3:], *places)
    with pytest.raises(ValueError, match=r'blank_k must be \(2, 8\) for q .* found \(2, 7\)'):
        kernels.forward(*tensors[:4], tensors[4][:, :7], tensors[5], *places)
    with pytest.raises(ValueError, match=r'xy: expected a contiguous torch.int32'):
        kernels.forward(*tensors, hood.xy.long(), *places[1:])
    with pytest.raises(ValueError, match=r'q: expected torch.float32 or torch.float64'):
        kernels.forward(tensors[0].half(), *tensors[1:], *places)


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_clusters_that_do_not_exist_are_named():
    tensors, hood, _ = attention_inputs((40,), 2, 8)
    wrong = hood.neighbors.clone()
    wrong[3, 2] = 1 << 40
    named = f'neighbors must hold numbers up to 5, found {1 << 40} at \\(3, 2\\)'
    with pytest.raises(IndexError, match=named):
        kernels.forward(*tensors, hood.xy, hood.start, wrong, 8, 5.0, 'cpu')
    for backend in ('cpu', 'reference'):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(IndexError, match=named):
            patch.setenv('MMSEG_ARTA_OPS', backend)
            cluster_attention(*tensors, replace(hood, neighbors=wrong), 5.0)


CUDA_CASES = {
    'two heads': ((27, 6), 2, 32, 8, 6, 5.0),
    'three heads of 16': ((13, 0, 9), 3, 16, 8, 6, 0.3),
    'four heads of 24, no clamp': ((18,), 4, 24, 8, 4, None),
    'wide head': ((19,), 1, 64, 8, 6, 5.0),
    'small head': ((19,), 2, 8, 5, 3, 5.0),
    'clusters of two tiles': ((35,), 2, 32, 11, 3, 5.0),
    'one token': ((1,), 2, 32, 8, 6, 5.0),
    'no tokens': ((0,), 2, 32, 8, 6, 5.0),
}


@pytest.mark.usefixtures('emulated_cuda')
@pytest.mark.parametrize(
    'case, dtype',
    [
        *((case, torch.float32) for case in CUDA_CASES),
        *(('two heads', dtype) for dtype in DTYPES[1:]),
        ('wide head', torch.float16),
        ('small head', torch.bfloat16),
    ],
    ids=str,
)
def test_cuda_cluster_attention(case, dtype):
    tensors, hood, clamp = attention_inputs(*CUDA_CASES[case])
    assert not kernels.unsupported_on_cuda(tensors[0].to(dtype), hood.neighbors.shape[1])
    tensors = [t.to(dtype) if i < 2 else t for i, t in enumerate(tensors)]
    grad_out = torch.randn(tensors[0].shape).to(dtype)
    found = run(lambda *t: cuda.cluster_attention(*t, hood, clamp), tensors, grad_out)
    double = [t.double().requires_grad_() for t in tensors]
    truth = reference.cluster_attention(*double, hood, clamp)
    expected = torch.autograd.grad(truth, double, grad_out.double())
    names = ('out', *ATTENTION_INPUTS)
    scale = {'bias_bias': float(expected[2].abs().max())}
    assert_close(found, (truth.detach(), *expected), names, dtype, scale)


@interpreted
@pytest.mark.parametrize(
    'case',
    [
        ((11, 0, 6), 2, 16, 8, 3, 5.0),
        ((13,), 1, 13, 5, 2, None),
        ((1,), 1, 8, 8, 6, 0.1),
        ((0,), 2, 8, 8, 6, 5.0),
    ],
    ids=str,
)
def test_triton_cluster_attention(case):
    tensors, hood, clamp = attention_inputs(*case)
    compare(
        lambda *t: cluster_attention(*t, hood, clamp),
        lambda *t: reference.cluster_attention(*t, hood, clamp),
        tensors,
        ATTENTION_INPUTS,
        dict.fromkeys(('bias_weight', 'bias_bias'), 1.0),
    )


@pytest.mark.usefixtures('emulated_cuda')
def test_cuda_sizes_that_there_are_not_are_named():
    q = torch.zeros(1, 2, 72)
    named = 'heads of 72 channels, multiples of 4 up to 64 on CUDA'
    assert kernels.unsupported_on_cuda(q, 6) == named
    assert '9 neighbour clusters' in kernels.unsupported_on_cuda(q[..., :8], 9)
    tensors, hood, _ = attention_inputs((9,), 2, 6)
    with pytest.raises(ValueError, match='arta_cluster_attention does not have these sizes'):
        cuda.cluster_attention(*tensors, hood, 5.0)
    with pytest.raises(ValueError, match=r'xy: expected a contiguous torch.int32'):
        kernels.forward(*tensors, hood.xy.long(), *cuda.places_of(hood, 5.0)[1:])
