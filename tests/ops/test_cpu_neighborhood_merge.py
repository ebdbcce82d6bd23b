from __future__ import annotations

import pytest
import torch

from mmseg_arta.ops import neighborhood_merge
from mmseg_arta.ops.reference import neighborhood_merge as reference
from mmseg_arta.ops.registered import neighborhood_merge as registered
from tests.ops.cpu_cases import compare, instruction_set, run, strided, with_threads
from tests.ops.kernels import cpu

pytestmark = pytest.mark.usefixtures('cpu_kernels')

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


def make(values, places, k, sets, channels, seed=0):
    torch.manual_seed(seed)
    rows = torch.randint(-1, max(values, 1), (places, k))
    rows[::7] = -1
    if values == 0:
        rows.fill_(-1)
    return [torch.randn(values, channels), torch.randn(places, k, sets)], rows


def call(module, rows):
    return lambda feats, weights: module.neighborhood_merge(feats, rows, weights)


def check(tensors, rows):
    compare(call(cpu, rows), call(reference, rows), tensors, ('feats', 'weights'))


@pytest.mark.parametrize('instructions', ['base', 'avx2', 'avx512'])
@pytest.mark.parametrize('case', CASES)
def test_matches_the_reference(case, instructions):
    with instruction_set(instructions):
        check(*make(*CASES[case]))


@pytest.mark.parametrize('seed', range(40))
def test_random_sizes(seed):
    torch.manual_seed(seed)
    sizes = [int(torch.randint(0, high, ())) for high in (300, 200, 12, 9, 70)]
    check(*make(*sizes, seed))


def test_one_row_for_all():
    tensors, rows = make(*CASES['PointConv'])
    check(tensors, torch.full_like(rows, 5))


def test_float64_gradients():
    tensors, rows = make(7, 5, 3, 5, 3)
    tensors = [t.double().requires_grad_() for t in tensors]
    assert torch.autograd.gradcheck(call(cpu, rows), tensors)


def test_strided_inputs():
    tensors, rows = make(*CASES['PointConv'])
    grad_out = torch.randn(64, 4, 83).permute(2, 1, 0)
    expected = run(call(cpu, rows), tensors, grad_out.contiguous())
    found = run(call(cpu, strided(rows)), [strided(t) for t in tensors], grad_out)
    assert all(map(torch.equal, found, expected))


def test_results_do_not_depend_on_the_number_of_threads():
    tensors, rows = make(400, 1000, 9, 4, 16)
    grad_out = torch.randn(1000, 4, 16)
    first, *others = with_threads((1, 2, 3), lambda: run(call(cpu, rows), tensors, grad_out))
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


def test_the_door_takes_this_back_end(monkeypatch):
    (feats, weights), rows = make(*CASES['PointConv'])
    monkeypatch.setattr(reference, 'neighborhood_merge', None)
    out = neighborhood_merge(feats, rows, weights)
    assert torch.equal(out, cpu.neighborhood_merge(feats, rows, weights))


@pytest.mark.parametrize('case', ['PointConv', 'no places', 'no values'])
def test_opcheck(case):
    (feats, weights), rows = make(*CASES[case])
    leaves = feats.clone().requires_grad_(), rows, weights.clone().requires_grad_()
    torch.library.opcheck(registered.forward, (*leaves, 'cpu'))
    grad_out = torch.randn_like(registered.forward(feats, rows, weights, 'cpu'))
    torch.library.opcheck(registered.backward, (grad_out, feats, rows, weights, 'cpu'))


def test_flops_are_counted():
    from torch.utils.flop_counter import FlopCounterMode

    (feats, weights), rows = make(*CASES['PointConv'])
    feats.requires_grad_()
    with FlopCounterMode(display=False) as counter:
        out = neighborhood_merge(feats, rows, weights)
        forward = counter.get_total_flops()
        out.sum().backward()
    products = 83 * 9 * 4 * 64
    assert forward == 2 * products
    assert counter.get_total_flops() == 6 * products


def test_bad_inputs_are_named():
    (feats, weights), rows = make(*CASES['PointConv'])
    with pytest.raises(ValueError, match=r'rows must be torch.int64, found torch.int32'):
        neighborhood_merge(feats, rows.int(), weights)
    with pytest.raises(ValueError, match='weights must hold floating-point numbers'):
        neighborhood_merge(feats, rows, weights.long())
    with pytest.raises(ValueError, match='rows must be on cpu as feats is, found meta'):
        neighborhood_merge(feats, rows.to('meta'), weights)
    with pytest.raises(ValueError, match=r'feats must be \(V, C\)'):
        neighborhood_merge(feats[0], rows, weights)
    with pytest.raises(IndexError, match='index out of range'):
        neighborhood_merge(feats, rows + 1, weights)
    with pytest.raises(ValueError, match=r'weights: expected a contiguous torch.float32'):
        registered.forward(feats, rows, weights.double(), 'cpu')
