"""Point deformable attention against its definition, and every back end against the reference."""

from __future__ import annotations

import pytest
import torch

from mmseg_arta.ops import (
    nearest_tokens_of_cells,
    point_deform_attention,
)
from mmseg_arta.ops.point_deform_attention import kernels, reference
from tests.helpers import some_tokens
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
from tests.ops.inputs import DEFORM_INPUTS, deform_call, deform_inputs, power_terms
from tests.ops.kernels import cpu, cuda

GRID = (8, 12)


def small_inputs(lengths, heads=2, dim=3, points=2, queries=5, dtype=torch.float64):
    """Two levels; one list of lengths each. Samples lie in and around the canvas."""
    levels = [some_tokens(lengths[0], (4, 6), 8), some_tokens(lengths[1], GRID, 4)]
    nearest, first = [], 0
    for level in levels:
        nearest.append(nearest_tokens_of_cells(level, GRID, 4).shifted(first))
        first += len(level)
    centers = torch.cat([level.centers() for level in levels]).to(dtype)
    batch = torch.arange(queries) % len(lengths[0])
    cells = torch.randint(-1, 13, (queries, heads, 2, points, 2))
    # Not where a sample would change its cell, nor where a distance is at its lower bound.
    location = (cells + torch.empty(cells.shape).uniform_(0.15, 0.4)).to(dtype)
    weight = torch.rand(queries, heads, 2, points).to(dtype)
    tensors = [
        torch.randn(first, heads, dim, dtype=dtype),
        location,
        weight,
        torch.tensor([1.7], dtype=dtype),
    ]
    return [t.requires_grad_() for t in tensors], centers, torch.stack(nearest), batch


def sampled(tensors, centers, nearest, batch, **options):
    value, location, weight, power = tensors
    return point_deform_attention(
        value, centers, nearest, batch, location, weight, power, **options
    )


def plain(tensors, centers, nearest, batch, floor=0.01, eps=1e-6):
    """The definition, sample by sample."""
    value, location, weight, power = tensors
    out = torch.zeros(len(batch), *value.shape[1:], dtype=value.dtype)
    for query, head, level, point in torch.cartesian_prod(*map(torch.arange, weight.shape)):
        x, y = location[query, head, level, point]
        col, row = int(x.round().clamp(0, GRID[1] - 1)), int(y.round().clamp(0, GRID[0] - 1))
        rows = [r for r in nearest[level, batch[query], row, col].tolist() if r >= 0]
        shares = []
        for r in rows:
            squared = (x - centers[r, 0]) ** 2 + (y - centers[r, 1]) ** 2
            shares.append(1 / (squared.clamp(min=floor) ** power + eps))
        total = sum(shares) + eps
        for r, share in zip(rows, shares, strict=True):
            part = weight[query, head, level, point] * share / total
            out[query, head] += part * value[r, head]
    return out


@pytest.mark.parametrize('lengths', [((9, 5), (40, 3)), ((24, 24), (0, 2)), ((1,), (96,))], ids=str)
def test_matches_the_definition(lengths):
    case = small_inputs(lengths)
    torch.testing.assert_close(sampled(*case), plain(*case))
    torch.testing.assert_close(sampled(*case, floor=0.5, eps=0.1), plain(*case, floor=0.5, eps=0.1))


def test_gradients():
    tensors, *rest = small_inputs(((9, 5), (40, 2)), heads=1, dim=2, queries=3)
    assert torch.autograd.gradcheck(lambda *t: sampled(t, *rest), tensors)


def test_a_level_without_tokens_adds_nothing():
    tensors, *rest = small_inputs(((0, 0), (0, 0)))
    out = sampled(tensors, *rest)
    assert out.shape == (5, 2, 3) and not out.any()
    out.sum().backward()
    assert all(t.grad is not None for t in tensors)


def test_an_image_does_not_see_another():
    tensors, centers, nearest, batch = small_inputs(((9, 5), (40, 30)))
    before = sampled(tensors, centers, nearest, batch)
    other = torch.cat([torch.arange(9, 14), torch.arange(54, 84)])
    with torch.no_grad():
        tensors[0][other] += 1
    after = sampled(tensors, centers, nearest, batch)
    assert torch.equal(before[batch == 0], after[batch == 0])
    assert not torch.equal(before[batch == 1], after[batch == 1])


def test_half_precision_places_are_not_rounded():
    tensors, *rest = small_inputs(((9, 5), (40, 3)), dtype=torch.float32)
    value, location, weight, power = tensors
    exact = sampled((value.bfloat16().float(), location, weight, power), *rest)
    half = sampled((value.bfloat16(), location, weight, power), *rest)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, atol=0.02, rtol=0.01)


def test_shapes_are_checked():
    tensors, centers, nearest, batch = small_inputs(((9,), (40,)))
    value, location, weight, power = tensors
    with pytest.raises(ValueError, match='location must be'):
        sampled((value, location[..., :1, :], weight, power), centers, nearest, batch)
    with pytest.raises(ValueError, match=r'nearest must be \(2, B'):
        sampled(tensors, centers, nearest[:1], batch)
    with pytest.raises(ValueError, match=r'value must be \(V, 2, d\)'):
        sampled((value[:, :1], location, weight, power), centers, nearest, batch)


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


def check(tensors, places, **options):
    truth = deform_call(reference, places, **options)
    compare(
        deform_call(cpu, places, **options),
        truth,
        tensors,
        DEFORM_INPUTS,
        {'power': power_terms(tensors, places, truth)},
    )


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize('instructions', ['base', 'avx2', 'avx512'])
@pytest.mark.parametrize('case', CASES)
def test_cpu_matches_the_reference(case, instructions):
    with instruction_set(instructions):
        check(*deform_inputs(*CASES[case]))


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize('floor, eps', [(0.3, 0.1), (1e-4, 1e-3), (0.01, 1e-9)])
def test_cpu_bounds(floor, eps):
    check(*deform_inputs(*CASES['few heads']), floor=floor, eps=eps)


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize('seed', range(40))
def test_cpu_random_sizes(seed):
    torch.manual_seed(seed)

    def draw(low, high):
        return int(torch.randint(low, high, ()))

    power = float(torch.rand(())) * 4
    sizes = draw(0, 200), draw(0, 40), draw(1, 4), draw(1, 5), draw(1, 41)
    check(*deform_inputs(*sizes, draw(1, 4), draw(1, 5), draw(1, 10), power, seed))


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize('distance', [1e-3, 1.0, 300.0, 1e6])
def test_cpu_near_and_far(distance):
    tensors, (centers, nearest, batch) = deform_inputs(*CASES['few heads'])
    tensors[1] = tensors[1] * distance
    check(tensors, (centers * distance, nearest, batch))


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_float64_gradients():
    tensors, places = deform_inputs(7, 3, 2, 1, 3, 2, 2, 4, 1.7)
    tensors[1] += 0.05  # not on tokens
    tensors = [t.double().requires_grad_() for t in tensors]
    assert torch.autograd.gradcheck(deform_call(cpu, places), tensors)


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_what_is_not_a_number_stays_so():
    tensors, places = deform_inputs(*CASES['few heads'])
    tensors[1][3, 1, 0, 0] = torch.nan
    out = deform_call(cpu, places)(*tensors)
    assert out[3, 1].isnan().all() and int(out.isnan().any(-1).sum()) == 1


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_strided_inputs():
    tensors, (centers, nearest, batch) = deform_inputs(*CASES['few heads'])
    grad_out = torch.randn(8, 2, 40).permute(2, 1, 0)
    expected = run(deform_call(cpu, (centers, nearest, batch)), tensors, grad_out.contiguous())
    places = (strided(centers), strided(nearest), strided(batch))
    found = run(deform_call(cpu, places), [strided(t) for t in tensors], grad_out)
    assert all(map(torch.equal, found, expected))


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_results_do_not_depend_on_the_number_of_threads():
    tensors, places = deform_inputs(300, 500, 2, 4, 8, 2, 2, 4, 3.0)
    grad_out = torch.randn(500, 4, 8)
    first, *others = with_threads(
        (1, 2, 3), lambda: run(deform_call(cpu, places), tensors, grad_out)
    )
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


@pytest.mark.usefixtures('cpu_kernels')
def test_is_taken(monkeypatch):
    tensors, (centers, nearest, batch) = deform_inputs(*CASES['few heads'])
    monkeypatch.setattr(reference, 'point_deform_attention', None)
    value, location, weight, power = tensors
    out = point_deform_attention(value, centers, nearest, batch, location, weight, power)
    assert torch.equal(out, deform_call(cpu, (centers, nearest, batch))(*tensors))


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize('case', ['few heads', 'no queries', 'no values'])
def test_cpu_opcheck(case):
    (value, location, weight, power), (centers, nearest, batch) = deform_inputs(*CASES[case])
    inputs = (value, centers, nearest, batch, location, weight, power, 0.01, 1e-6, 'cpu')
    leaves = tuple(
        t.clone().requires_grad_() if i in (0, 4, 5, 6) else t for i, t in enumerate(inputs)
    )
    torch.library.opcheck(kernels.forward, leaves)
    grad_out = torch.randn_like(kernels.forward(*inputs))
    torch.library.opcheck(kernels.backward, (grad_out, *inputs))


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_flops_are_counted():
    from torch.utils.flop_counter import FlopCounterMode

    (value, location, weight, power), places = deform_inputs(*CASES['few heads'])
    value.requires_grad_()
    with FlopCounterMode(display=False) as counter:
        out = deform_call(cpu, places)(value, location, weight, power)
        forward = counter.get_total_flops()
        out.sum().backward()
    products = 40 * 2 * 2 * 3 * 4 * 8
    assert forward == 2 * products
    assert counter.get_total_flops() == 6 * products


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_bad_inputs_are_named():
    (value, location, weight, power), (centers, nearest, batch) = deform_inputs(*CASES['few heads'])

    def op(**changed):
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
        op(nearest=nearest.int())
    with pytest.raises(ValueError, match='location must hold floating-point numbers'):
        op(location=location.long())
    with pytest.raises(ValueError, match='batch must be on cpu as value is, found meta'):
        op(batch=batch.to('meta'))
    with pytest.raises(ValueError, match=r'batch must be \(40,\)'):
        op(batch=batch[:3])
    with pytest.raises(ValueError, match='power must hold one number'):
        op(power=torch.ones(2))
    with pytest.raises(IndexError, match='nearest must hold numbers up to 130, found'):
        op(nearest=nearest + 131)
    with pytest.raises(IndexError, match='batch must hold numbers from 0 to'):
        op(batch=batch + 1)
    with pytest.raises(ValueError, match=r'weight: expected a contiguous torch.float32'):
        given = (value, centers, nearest, batch, location, weight.double(), power)
        kernels.forward(*given, 0.01, 1e-6, 'cpu')


@pytest.mark.usefixtures('emulated_cuda')
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
def test_cuda_point_deform_attention(sizes, dtype, ordered):
    tensors, hood = deform_inputs(*sizes)
    tensors[0] = tensors[0].to(dtype)
    assert not kernels.unsupported_on_cuda(tensors[0])
    grad_out = torch.randn(len(hood[2]), *tensors[0].shape[1:]).to(dtype)
    found = run(deform_call(cuda, hood), tensors, grad_out, deterministic=ordered)
    double = [t.double().requires_grad_() for t in tensors]
    function = deform_call(reference, hood)
    truth = function(*double)
    expected = torch.autograd.grad(truth, double, grad_out.double())
    names = ('out', *DEFORM_INPUTS)
    scale = power_terms(double, hood, function)
    assert_close(found, (truth.detach(), *expected), names, dtype, {'power': scale})


@interpreted
@pytest.mark.parametrize(
    'sizes',
    [
        (20, 9, 2, 2, 8, 2, 2, 4, 3.0),
        (7, 3, 1, 1, 5, 1, 3, 3, 1.7),
        (5, 0, 1, 1, 4, 1, 1, 2, 3.0),
        (0, 3, 1, 1, 4, 1, 2, 2, 3.0),
    ],
    ids=str,
)
def test_triton_point_deform_attention(sizes):
    tensors, places = deform_inputs(*sizes)
    centers, nearest, batch = places
    truth = deform_call(reference, places)
    compare(
        lambda v, x, w, p: point_deform_attention(v, centers, nearest, batch, x, w, p),
        truth,
        tensors,
        DEFORM_INPUTS,
        {'power': power_terms(tensors, places, truth)},
    )


def test_cuda_sizes_that_there_are_not_are_named():
    assert 'heads of 6 channels' in kernels.unsupported_on_cuda(torch.zeros(1, 2, 6))
