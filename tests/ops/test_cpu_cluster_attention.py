from __future__ import annotations

import pytest
import torch

from mmseg_arta.ops import build_neighborhood, cluster_attention
from mmseg_arta.ops.cpu import library
from mmseg_arta.ops.reference import cluster_attention as reference
from mmseg_arta.ops.registered import cluster_attention as registered
from tests.helpers import mixed_places
from tests.ops.kernels import cpu

pytestmark = pytest.mark.usefixtures('cpu_kernels')

CANVAS = (56, 40)
NAMES = ('q', 'kv', 'bias_weight', 'bias_bias', 'blank_k', 'blank_v')

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


def make(lengths, heads, dim, cluster_size=8, neighbors=6, clamp=5.0, scale=1.0, seed=0):
    """Inputs in float32 and their neighbourhood; several tokens share a place."""
    xy, batch, counts = mixed_places(lengths, CANVAS, seed)
    level = torch.randint(0, 4, (len(xy), 1), generator=torch.Generator().manual_seed(seed))
    xy = (xy >> level << level).int()
    hood = build_neighborhood(xy, batch, counts, lengths, CANVAS, cluster_size, neighbors)
    total = sum(lengths)
    shapes = (
        (total, heads, dim),
        (total, heads, 2, dim),
        (heads, 5),
        (heads,),
        (heads, dim),
        (heads, dim),
    )
    torch.manual_seed(seed)
    tensors = [torch.randn(shape) for shape in shapes]
    tensors[0] *= scale
    tensors[2] *= 0.2
    return tensors, hood, clamp


def run(function, tensors, hood, clamp, grad_out):
    """Output and gradients, poisoned wherever the kernel does not write."""
    tensors = [t.detach().requires_grad_() for t in tensors]
    was = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)  # new memory is filled with NaN
    try:
        out = function(*tensors, hood, clamp)
        grads = torch.autograd.grad(out, tensors, grad_out.to(out.dtype))
    finally:
        torch.use_deterministic_algorithms(was)
    return dict(zip(('out', *NAMES), (out.detach(), *grads), strict=True))


def compare(tensors, hood, clamp, tolerance=1e-5):
    """C++ in float32 against the reference in float64, relative to each tensor's largest."""
    grad_out = torch.randn(tensors[0].shape)
    expected = run(
        reference.cluster_attention, [t.double() for t in tensors], hood, clamp, grad_out
    )
    found = run(cpu.cluster_attention, tensors, hood, clamp, grad_out)
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


@pytest.fixture(params=['base', 'avx2', 'avx512'])
def instructions(request, cpu_kernels):
    if library.library().arta_cpu_use(request.param.encode()):
        pytest.skip(f'this machine does not have {request.param}')
    assert library.describe().startswith(request.param)
    yield
    library.library().arta_cpu_use(b'')


@pytest.mark.usefixtures('instructions')
@pytest.mark.parametrize('case', CASES)
def test_matches_the_reference(case):
    compare(*make(*CASES[case]))


@pytest.mark.usefixtures('instructions')
def test_large_logits():
    # Weights from 1 down to far below what float32 holds.
    compare(*make((120,), 2, 16, scale=40.0), tolerance=1e-4)


@pytest.mark.parametrize('seed', range(60))
def test_random_sizes(seed):
    torch.manual_seed(seed)

    def draw(low, high):
        return int(torch.randint(low, high, ()))

    lengths = tuple(draw(0, 90) for _ in range(draw(1, 5)))
    compare(*make(lengths, draw(1, 9), draw(1, 40), draw(1, 18), draw(1, 9), seed=seed))


def test_float64_gradients():
    tensors, hood, clamp = make((11, 2), 1, 3, neighbors=2)
    tensors = [t.double().requires_grad_() for t in tensors]
    torch.autograd.gradcheck(lambda *t: cpu.cluster_attention(*t, hood, clamp), tensors)


def test_autocast():
    tensors, hood, clamp = make((60,), 2, 16)
    expected = cluster_attention(*tensors, hood, clamp)
    with torch.autocast('cpu', torch.bfloat16):
        mixed = [t.bfloat16() if i < 2 else t for i, t in enumerate(tensors)]
        found = cluster_attention(*mixed, hood, clamp)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.1)


def test_strided_inputs():
    tensors, hood, clamp = make((60,), 2, 16)
    grad_out = torch.randn(16, 2, 60).permute(2, 1, 0)
    strided = [torch.stack((t, t + 1), -1)[..., 0] for t in tensors]
    expected = run(cpu.cluster_attention, tensors, hood, clamp, grad_out.contiguous())
    found = run(cpu.cluster_attention, strided, hood, clamp, grad_out)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_results_do_not_depend_on_the_number_of_threads():
    tensors, hood, clamp = make((900, 500), 2, 8)
    grad_out = torch.randn(1400, 2, 8)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(run(cpu.cluster_attention, tensors, hood, clamp, grad_out))
    finally:
        torch.set_num_threads(before)
    assert all(
        torch.equal(result[name], value)
        for result in results[1:]
        for name, value in results[0].items()
    )


def test_the_door_takes_this_back_end(monkeypatch):
    tensors, hood, clamp = make((60,), 2, 16)
    monkeypatch.setattr(reference, 'cluster_attention', None)
    out = cluster_attention(*tensors, hood, clamp)
    assert torch.equal(out, cpu.cluster_attention(*tensors, hood, clamp))


def test_no_gradient_for_frozen_parameters():
    tensors, hood, clamp = make((60,), 2, 16)
    tensors[1].requires_grad_()
    cpu.cluster_attention(*tensors, hood, clamp).sum().backward()
    assert tensors[1].grad is not None and tensors[0].grad is None


@pytest.mark.parametrize('lengths', [(50, 31), (0,)], ids=str)
def test_opcheck(lengths):
    tensors, hood, _ = make(lengths, 2, 8)
    places = cpu.places_of(hood, 5.0)
    leaves = (t.clone().requires_grad_() for t in tensors)
    torch.library.opcheck(registered.forward, (*leaves, *places))
    out, lse = registered.forward(*tensors, *places)
    given = (torch.randn_like(out), out, lse, *tensors, *places)
    torch.library.opcheck(registered.backward, given)


def test_compiles_into_one_graph():
    tensors, hood, clamp = make((50, 31), 2, 8)
    compiled = torch.compile(
        lambda *t: cluster_attention(*t, hood, clamp) * 2, fullgraph=True, backend='aot_eager'
    )
    torch.testing.assert_close(compiled(*tensors), cluster_attention(*tensors, hood, clamp) * 2)


def test_flops_are_counted():
    from torch.utils.flop_counter import FlopCounterMode

    tensors, hood, clamp = make((50, 31), 2, 8)
    tensors[0].requires_grad_()
    with FlopCounterMode(display=False) as counter:
        out = cluster_attention(*tensors, hood, clamp)
        forward = counter.get_total_flops()
        out.sum().backward()
    pairs = 81 * 2 * (6 * 8 + 1)
    assert forward == pairs * 2 * (2 * 8 + 5)
    assert counter.get_total_flops() - forward == pairs * 2 * (5 * 8 + 2 * 5)


def test_bad_inputs_are_named():
    tensors, hood, _ = make((9,), 2, 8)
    places = cpu.places_of(hood, 5.0)
    with pytest.raises(ValueError, match=r'bias_weight: expected a contiguous torch.float32'):
        registered.forward(*tensors[:2], tensors[2].double(), *tensors[3:], *places)
    with pytest.raises(ValueError, match=r'blank_k: .* tensor \(2, 8\).* found .* \(2, 7\)'):
        registered.forward(*tensors[:4], tensors[4][:, :7], tensors[5], *places)
    with pytest.raises(ValueError, match=r'xy: expected a contiguous torch.int32'):
        registered.forward(*tensors, hood.xy.long(), *places[1:])
    with pytest.raises(ValueError, match=r'q: expected torch.float32 or torch.float64'):
        registered.forward(tensors[0].half(), *tensors[1:], *places)


def test_clusters_that_do_not_exist_are_left_out():
    tensors, hood, _ = make((40,), 2, 8)
    none, wrong = hood.neighbors.clone(), hood.neighbors.clone()
    none[:, 2:], wrong[:, 2:] = -1, 1 << 40
    found = [
        registered.forward(*tensors, hood.xy, hood.start, n, 8, 5.0, 'cpu')[0]
        for n in (none, wrong)
    ]
    assert torch.equal(*found)
