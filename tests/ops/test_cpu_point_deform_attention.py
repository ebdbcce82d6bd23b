from __future__ import annotations

import pytest
import torch

from mmseg_arta.ops import point_deform_attention
from mmseg_arta.ops.reference import point_deform_attention as reference
from mmseg_arta.ops.registered import point_deform_attention as registered
from tests.ops.cpu_cases import compare, instruction_set, run, strided, with_threads
from tests.ops.kernels import cpu

pytestmark = pytest.mark.usefixtures('cpu_kernels')

NAMES = ('value', 'location', 'weight', 'power')

# values, queries, images, heads, dim, levels, points, tokens per sample, power
CASES = {
    'pixel decoder': (90, 61, 2, 8, 32, 3, 4, 4, 3.0),
    'few heads': (131, 40, 1, 2, 8, 2, 3, 4, 1.7),
    'head dim 16': (17, 23, 3, 4, 16, 1, 5, 4, 2.0),
    'head dim 24': (17, 23, 3, 4, 24, 2, 1, 3, 0.5),
    'odd head dim': (53, 19, 2, 3, 13, 2, 2, 5, 3.3),
    'wide head': (29, 7, 1, 1, 77, 2, 2, 4, 3.0),
    'one of everything': (1, 1, 1, 1, 1, 1, 1, 1, 3.0),
    'nine tokens': (70, 11, 2, 2, 8, 3, 4, 9, -1.0),
    'thousands of queries': (5003, 2003, 2, 2, 8, 2, 2, 4, 3.0),
    'no queries': (20, 0, 1, 2, 8, 2, 2, 4, 3.0),
    'no values': (0, 9, 2, 2, 8, 2, 2, 4, 3.0),
    'no points': (20, 9, 2, 2, 8, 2, 0, 4, 3.0),
}
GRID = (9, 13)


def make(values, queries, images, heads, dim, levels, points, k, power, seed=0):
    """Tensors with gradients, and the function's other arguments."""
    torch.manual_seed(seed)
    centers = torch.randint(0, 26, (values, 2)) / 2
    nearest = torch.randint(-1, max(values, 1), (levels, images, *GRID, k))
    if values == 0:
        nearest.fill_(-1)
    cells = torch.randint(-2, 15, (queries, heads, levels, points, 2))
    # Not where a sample would change its cell. Some lie on tokens, where distances are at their
    # lower bound.
    location = cells + torch.empty(cells.shape).uniform_(-0.4, 0.4)
    on_token = torch.rand(location.shape[:-1]) < 0.1
    location[on_token] = location[on_token].round()
    tensors = [
        torch.randn(values, heads, dim),
        location,
        torch.rand(queries, heads, levels, points),
        torch.tensor([power]),
    ]
    return tensors, (centers, nearest, torch.randint(0, images, (queries,)))


def call(module, places, floor=0.01, eps=1e-6):
    centers, nearest, batch = places

    def function(value, location, weight, power):
        return module.point_deform_attention(
            value, centers.to(location), nearest, batch, location, weight, power, floor, eps
        )

    return function


def check(tensors, places, **options):
    truth = call(reference, places, **options)
    compare(
        call(cpu, places, **options),
        truth,
        tensors,
        NAMES,
        {'power': terms(tensors, places, truth)},
    )


def terms(tensors, places, truth):
    """Sum of the sizes of what all pairs of a sample and a token add to the power's gradient."""
    value, location, weight, power = (t.double() for t in tensors)
    every = power.expand(*weight.shape, places[1].shape[-1]).clone().requires_grad_()
    out = truth(value, location, weight, every)
    torch.manual_seed(0)
    return float(torch.autograd.grad(out, every, torch.randn(out.shape).double())[0].abs().sum())


@pytest.mark.parametrize('instructions', ['base', 'avx2', 'avx512'])
@pytest.mark.parametrize('case', CASES)
def test_matches_the_reference(case, instructions):
    with instruction_set(instructions):
        check(*make(*CASES[case]))


@pytest.mark.parametrize('floor, eps', [(0.3, 0.1), (1e-4, 1e-3), (0.01, 1e-9)])
def test_bounds(floor, eps):
    check(*make(*CASES['few heads']), floor=floor, eps=eps)


@pytest.mark.parametrize('seed', range(40))
def test_random_sizes(seed):
    torch.manual_seed(seed)

    def draw(low, high):
        return int(torch.randint(low, high, ()))

    power = float(torch.rand(())) * 4
    sizes = draw(0, 200), draw(0, 40), draw(1, 4), draw(1, 5), draw(1, 41)
    check(*make(*sizes, draw(1, 4), draw(1, 5), draw(1, 10), power, seed))


@pytest.mark.parametrize('distance', [1e-3, 1.0, 300.0, 1e6])
def test_near_and_far(distance):
    tensors, (centers, nearest, batch) = make(*CASES['few heads'])
    tensors[1] = tensors[1] * distance
    check(tensors, (centers * distance, nearest, batch))


def test_float64_gradients():
    tensors, places = make(7, 3, 2, 1, 3, 2, 2, 4, 1.7)
    tensors[1] += 0.05  # not on tokens
    tensors = [t.double().requires_grad_() for t in tensors]
    assert torch.autograd.gradcheck(call(cpu, places), tensors)


def test_what_is_not_a_number_stays_so():
    tensors, places = make(*CASES['few heads'])
    tensors[1][3, 1, 0, 0] = torch.nan
    out = call(cpu, places)(*tensors)
    assert out[3, 1].isnan().all() and int(out.isnan().any(-1).sum()) == 1


def test_strided_inputs():
    tensors, (centers, nearest, batch) = make(*CASES['few heads'])
    grad_out = torch.randn(8, 2, 40).permute(2, 1, 0)
    expected = run(call(cpu, (centers, nearest, batch)), tensors, grad_out.contiguous())
    places = (strided(centers), strided(nearest), strided(batch))
    found = run(call(cpu, places), [strided(t) for t in tensors], grad_out)
    assert all(map(torch.equal, found, expected))


def test_results_do_not_depend_on_the_number_of_threads():
    tensors, places = make(300, 500, 2, 4, 8, 2, 2, 4, 3.0)
    grad_out = torch.randn(500, 4, 8)
    first, *others = with_threads((1, 2, 3), lambda: run(call(cpu, places), tensors, grad_out))
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


def test_the_door_takes_this_back_end(monkeypatch):
    tensors, (centers, nearest, batch) = make(*CASES['few heads'])
    monkeypatch.setattr(reference, 'point_deform_attention', None)
    value, location, weight, power = tensors
    out = point_deform_attention(value, centers, nearest, batch, location, weight, power)
    assert torch.equal(out, call(cpu, (centers, nearest, batch))(*tensors))


@pytest.mark.parametrize('case', ['few heads', 'no queries', 'no values'])
def test_opcheck(case):
    (value, location, weight, power), (centers, nearest, batch) = make(*CASES[case])
    inputs = (value, centers, nearest, batch, location, weight, power, 0.01, 1e-6, 'cpu')
    leaves = tuple(
        t.clone().requires_grad_() if i in (0, 4, 5, 6) else t for i, t in enumerate(inputs)
    )
    torch.library.opcheck(registered.forward, leaves)
    grad_out = torch.randn_like(registered.forward(*inputs))
    torch.library.opcheck(registered.backward, (grad_out, *inputs))


def test_flops_are_counted():
    from torch.utils.flop_counter import FlopCounterMode

    (value, location, weight, power), places = make(*CASES['few heads'])
    value.requires_grad_()
    with FlopCounterMode(display=False) as counter:
        out = call(cpu, places)(value, location, weight, power)
        forward = counter.get_total_flops()
        out.sum().backward()
    products = 40 * 2 * 2 * 3 * 4 * 8
    assert forward == 2 * products
    assert counter.get_total_flops() == 6 * products


def test_bad_inputs_are_named():
    (value, location, weight, power), (centers, nearest, batch) = make(*CASES['few heads'])

    def door(**changed):
        given = dict(
            value=value,
            centers=centers,
            nearest=nearest,
            batch=batch,
            location=location,
            weight=weight,
            power=power,
        )
        return point_deform_attention(**(given | changed))

    with pytest.raises(ValueError, match=r'nearest must be torch.int64, found torch.int32'):
        door(nearest=nearest.int())
    with pytest.raises(ValueError, match='location must hold floating-point numbers'):
        door(location=location.long())
    with pytest.raises(ValueError, match='batch must be on cpu as value is, found meta'):
        door(batch=batch.to('meta'))
    with pytest.raises(ValueError, match=r'batch must be \(40,\)'):
        door(batch=batch[:3])
    with pytest.raises(ValueError, match='power must hold one number'):
        door(power=torch.ones(2))
    with pytest.raises(IndexError, match='index out of range'):
        door(nearest=nearest + 131)
    with pytest.raises(IndexError, match='index out of range'):
        door(batch=batch + 1)
    with pytest.raises(ValueError, match=r'weight: expected a contiguous torch.float32'):
        given = (value, centers, nearest, batch, location, weight.double(), power)
        registered.forward(*given, 0.01, 1e-6, 'cpu')
