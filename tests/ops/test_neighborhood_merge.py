"""Neighbourhood merge against its definition, and every back end against the reference."""

from __future__ import annotations

import pytest
import torch

from mmseg_arta.ops import neighborhood_merge
from mmseg_arta.ops.neighborhood_merge import kernels, reference
from tests.ops.helpers import (
    DTYPES,
    assert_close,
    compare,
    instruction_set,
    interpreted,
    run,
    strided,
    with_threads,
)
from tests.ops.inputs import merge_call, merge_inputs
from tests.ops.kernels import cpu, cuda


def small_inputs(tokens=7, places=5, k=3, sets=4, dim=2):
    rows = torch.randint(-1, tokens, (places, k)) if tokens else torch.full((places, k), -1)
    feats = torch.randn(tokens, dim, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(places, k, sets, dtype=torch.float64, requires_grad=True)
    return feats, rows, weights


def test_matches_the_definition():
    feats, rows, weights = small_inputs()
    assert (rows < 0).any()
    expected = torch.zeros(5, 4, 2, dtype=torch.float64)
    for place in range(5):
        for lane, row in enumerate(rows[place].tolist()):
            if row >= 0:
                expected[place] += weights[place, lane][:, None] * feats[row]
    torch.testing.assert_close(neighborhood_merge(feats, rows, weights), expected)


def test_gradients():
    feats, rows, weights = small_inputs()
    assert torch.autograd.gradcheck(lambda f, w: neighborhood_merge(f, rows, w), (feats, weights))


@pytest.mark.parametrize('tokens, places', [(0, 5), (0, 0), (7, 0)])
def test_nothing_to_merge(tokens, places):
    feats, rows, weights = small_inputs(tokens, places)
    out = neighborhood_merge(feats, rows, weights)
    assert out.shape == (places, 4, 2) and not out.any()
    out.sum().backward()
    assert feats.grad is not None and weights.grad is not None


def test_keeps_the_number_type():
    feats, rows, weights = small_inputs()
    assert neighborhood_merge(feats.bfloat16(), rows, weights.float()).dtype == torch.bfloat16


def test_shapes_are_checked():
    feats, rows, weights = small_inputs()
    with pytest.raises(ValueError, match=r'weights must be \(5, 3, M\)'):
        neighborhood_merge(feats, rows, weights[:, :2])


# values, places, neighbours, sets of weights, channels
CASES = {
    'PointConv': (120, 83, 9, 4, 64),
    'interpolation': (40, 97, 4, 1, 256),
    'six sets': (31, 17, 5, 6, 24),
    'three sets': (31, 17, 3, 3, 16),
    'odd channels': (13, 11, 3, 5, 37),
    'one of everything': (1, 1, 1, 1, 1),
    'thousands of places': (5003, 7001, 4, 1, 8),
    'no places': (13, 0, 3, 4, 8),
    'no values': (0, 11, 3, 4, 8),
    'no neighbours': (13, 11, 0, 4, 8),
    'no sets': (13, 11, 3, 0, 8),
}


def check(tensors, rows):
    compare(merge_call(cpu, rows), merge_call(reference, rows), tensors, ('feats', 'weights'))


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize('instructions', ['base', 'avx2', 'avx512'])
@pytest.mark.parametrize('case', CASES)
def test_cpu_matches_the_reference(case, instructions):
    with instruction_set(instructions):
        check(*merge_inputs(*CASES[case]))


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize('seed', range(40))
def test_cpu_random_sizes(seed):
    torch.manual_seed(seed)
    sizes = [int(torch.randint(0, high, ())) for high in (300, 200, 12, 9, 70)]
    check(*merge_inputs(*sizes, seed))


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_one_row_for_all():
    tensors, rows = merge_inputs(*CASES['PointConv'])
    check(tensors, torch.full_like(rows, 5))


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_float64_gradients():
    tensors, rows = merge_inputs(7, 5, 3, 5, 3)
    tensors = [t.double().requires_grad_() for t in tensors]
    assert torch.autograd.gradcheck(merge_call(cpu, rows), tensors)


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_strided_inputs():
    tensors, rows = merge_inputs(*CASES['PointConv'])
    grad_out = torch.randn(64, 4, 83).permute(2, 1, 0)
    expected = run(merge_call(cpu, rows), tensors, grad_out.contiguous())
    found = run(merge_call(cpu, strided(rows)), [strided(t) for t in tensors], grad_out)
    assert all(map(torch.equal, found, expected))


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_results_do_not_depend_on_the_number_of_threads():
    tensors, rows = merge_inputs(400, 1000, 9, 4, 16)
    grad_out = torch.randn(1000, 4, 16)
    first, *others = with_threads((1, 2, 3), lambda: run(merge_call(cpu, rows), tensors, grad_out))
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


@pytest.mark.usefixtures('cpu_kernels')
def test_is_taken(monkeypatch):
    (feats, weights), rows = merge_inputs(*CASES['PointConv'])
    monkeypatch.setattr(reference, 'neighborhood_merge', None)
    out = neighborhood_merge(feats, rows, weights)
    assert torch.equal(out, cpu.neighborhood_merge(feats, rows, weights))


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize('case', ['PointConv', 'no places', 'no values'])
def test_cpu_opcheck(case):
    (feats, weights), rows = merge_inputs(*CASES[case])
    leaves = feats.clone().requires_grad_(), rows, weights.clone().requires_grad_()
    torch.library.opcheck(kernels.forward, (*leaves, 'cpu'))
    grad_out = torch.randn_like(kernels.forward(feats, rows, weights, 'cpu'))
    torch.library.opcheck(kernels.backward, (grad_out, feats, rows, weights, 'cpu'))


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_flops_are_counted():
    from torch.utils.flop_counter import FlopCounterMode

    (feats, weights), rows = merge_inputs(*CASES['PointConv'])
    feats.requires_grad_()
    with FlopCounterMode(display=False) as counter:
        out = neighborhood_merge(feats, rows, weights)
        forward = counter.get_total_flops()
        out.sum().backward()
    products = 83 * 9 * 4 * 64
    assert forward == 2 * products
    assert counter.get_total_flops() == 6 * products


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_bad_inputs_are_named():
    (feats, weights), rows = merge_inputs(*CASES['PointConv'])
    with pytest.raises(ValueError, match=r'rows must be torch.int64, found torch.int32'):
        neighborhood_merge(feats, rows.int(), weights)
    with pytest.raises(ValueError, match='weights must hold floating-point numbers'):
        neighborhood_merge(feats, rows, weights.long())
    with pytest.raises(ValueError, match='rows must be on cpu as feats is, found meta'):
        neighborhood_merge(feats, rows.to('meta'), weights)
    with pytest.raises(ValueError, match=r'feats must be \(V, C\)'):
        neighborhood_merge(feats[0], rows, weights)
    with pytest.raises(IndexError, match='rows must hold numbers up to 119, found 120'):
        neighborhood_merge(feats, rows + 1, weights)
    with pytest.raises(ValueError, match=r'weights: expected a contiguous torch.float32'):
        kernels.forward(feats, rows, weights.double(), 'cpu')


@pytest.mark.usefixtures('emulated_cuda')
@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize(
    'sizes',
    [(20, 15, 9, 4, 64), (20, 15, 4, 1, 32), (9, 7, 3, 6, 21), (0, 4, 3, 4, 8), (5, 0, 3, 4, 8)],
    ids=str,
)
def test_cuda_neighborhood_merge(sizes, dtype):
    (feats, weights), rows = merge_inputs(*sizes)
    feats, weights = feats.to(dtype), weights.to(dtype)
    grad_out = torch.randn(len(rows), weights.shape[2], feats.shape[1]).to(dtype)
    found = run(merge_call(cuda, rows), (feats, weights), grad_out)
    double = [t.double().requires_grad_() for t in (feats, weights)]
    truth = reference.neighborhood_merge(double[0], rows, double[1])
    expected = torch.autograd.grad(truth, double, grad_out.double())
    assert_close(found, (truth.detach(), *expected), ('out', 'feats', 'weights'), dtype)


@interpreted
@pytest.mark.parametrize(
    'sizes', [(9, 6, 3, 4, 20), (5, 4, 2, 1, 7), (4, 0, 3, 2, 8), (0, 3, 2, 2, 4)], ids=str
)
def test_triton_neighborhood_merge(sizes):
    tensors, rows = merge_inputs(*sizes)
    compare(
        lambda feats, weights: neighborhood_merge(feats, rows, weights),
        lambda feats, weights: reference.neighborhood_merge(feats, rows, weights),
        tensors,
        ('feats', 'weights'),
    )
