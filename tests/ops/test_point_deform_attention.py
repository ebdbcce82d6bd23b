from __future__ import annotations

import pytest
import torch

from mmseg_arta.ops import nearest_tokens_of_cells, point_deform_attention
from tests.helpers import some_tokens

GRID = (8, 12)


def make(lengths, heads=2, dim=3, points=2, queries=5, dtype=torch.float64):
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


def run(tensors, centers, nearest, batch, **options):
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
    case = make(lengths)
    torch.testing.assert_close(run(*case), plain(*case))
    torch.testing.assert_close(run(*case, floor=0.5, eps=0.1), plain(*case, floor=0.5, eps=0.1))


def test_gradients():
    tensors, *rest = make(((9, 5), (40, 2)), heads=1, dim=2, queries=3)
    assert torch.autograd.gradcheck(lambda *t: run(t, *rest), tensors)


def test_a_level_without_tokens_adds_nothing():
    tensors, *rest = make(((0, 0), (0, 0)))
    out = run(tensors, *rest)
    assert out.shape == (5, 2, 3) and not out.any()
    out.sum().backward()
    assert all(t.grad is not None for t in tensors)


def test_an_image_does_not_see_another():
    tensors, centers, nearest, batch = make(((9, 5), (40, 30)))
    before = run(tensors, centers, nearest, batch)
    other = torch.cat([torch.arange(9, 14), torch.arange(54, 84)])
    with torch.no_grad():
        tensors[0][other] += 1
    after = run(tensors, centers, nearest, batch)
    assert torch.equal(before[batch == 0], after[batch == 0])
    assert not torch.equal(before[batch == 1], after[batch == 1])


def test_half_precision_places_are_not_rounded():
    tensors, *rest = make(((9, 5), (40, 3)), dtype=torch.float32)
    value, location, weight, power = tensors
    exact = run((value.bfloat16().float(), location, weight, power), *rest)
    half = run((value.bfloat16(), location, weight, power), *rest)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, atol=0.02, rtol=0.01)


def test_shapes_are_checked():
    tensors, centers, nearest, batch = make(((9,), (40,)))
    value, location, weight, power = tensors
    with pytest.raises(ValueError, match='location must be'):
        run((value, location[..., :1, :], weight, power), centers, nearest, batch)
    with pytest.raises(ValueError, match=r'nearest must be \(2, B'):
        run(tensors, centers, nearest[:1], batch)
    with pytest.raises(ValueError, match=r'value must be \(V, 2, d\)'):
        run((value[:, :1], location, weight, power), centers, nearest, batch)
