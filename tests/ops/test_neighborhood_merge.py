from __future__ import annotations

import pytest
import torch

from mmseg_arta.ops import neighborhood_merge


def make(tokens=7, places=5, k=3, sets=4, dim=2):
    rows = torch.randint(-1, tokens, (places, k)) if tokens else torch.full((places, k), -1)
    feats = torch.randn(tokens, dim, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(places, k, sets, dtype=torch.float64, requires_grad=True)
    return feats, rows, weights


def test_matches_the_definition():
    feats, rows, weights = make()
    assert (rows < 0).any()
    expected = torch.zeros(5, 4, 2, dtype=torch.float64)
    for place in range(5):
        for lane, row in enumerate(rows[place].tolist()):
            if row >= 0:
                expected[place] += weights[place, lane][:, None] * feats[row]
    torch.testing.assert_close(neighborhood_merge(feats, rows, weights), expected)


def test_gradients():
    feats, rows, weights = make()
    assert torch.autograd.gradcheck(lambda f, w: neighborhood_merge(f, rows, w), (feats, weights))


@pytest.mark.parametrize('tokens, places', [(0, 5), (0, 0), (7, 0)])
def test_nothing_to_merge(tokens, places):
    feats, rows, weights = make(tokens, places)
    out = neighborhood_merge(feats, rows, weights)
    assert out.shape == (places, 4, 2) and not out.any()
    out.sum().backward()
    assert feats.grad is not None and weights.grad is not None


def test_keeps_the_number_type():
    feats, rows, weights = make()
    assert neighborhood_merge(feats.bfloat16(), rows, weights.float()).dtype == torch.bfloat16


def test_shapes_are_checked():
    feats, rows, weights = make()
    with pytest.raises(ValueError, match=r'weights must be \(5, 3, M\)'):
        neighborhood_merge(feats, rows, weights[:, :2])
