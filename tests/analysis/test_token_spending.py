"""Boundary that chosen patches cover, against random and the best choices."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from mmseg_arta.analysis.token_spending import Spending, spending_table
from mmseg_arta.engine.token_view import ChosenPatches


def edges():
    """Boundary pixels in patches of 4 px of an image of 7x10: 3, 0, 2 and 0, 0, 1."""
    found = np.zeros((7, 10), bool)
    found[0, :3] = True
    found[3, 8:] = True
    found[6, 9] = True
    return found


def test_one_image():
    chosen = np.array([[True, True, False], [False, False, True]])
    spending = Spending.of(ChosenPatches('round 1', '', 4, chosen), edges())
    assert (spending.patches, spending.chosen, spending.boundary) == (6, 3, 6)
    assert (spending.covered, spending.away) == (4, 1)
    assert (spending.covered_oracle, spending.away_oracle) == (6, 0)


def test_random_is_the_mean_over_all_choices():
    of_all = []
    for cells in combinations(range(6), 2):
        chosen = np.zeros(6, bool)
        chosen[list(cells)] = True
        of_all.append(Spending.of(ChosenPatches('', '', 4, chosen.reshape(2, 3)), edges()))
    first = of_all[0]
    assert first.covered_random == pytest.approx(np.mean([one.covered for one in of_all]))
    assert first.away_random == pytest.approx(np.mean([one.away for one in of_all]))
    assert first.covered_oracle == max(one.covered for one in of_all)
    assert first.away_oracle == min(one.away for one in of_all)


def test_table_sums_over_images():
    half = np.array([[True, False, False], [False, False, False]])
    none, every = np.zeros((2, 3), bool), np.ones((2, 3), bool)
    of_images = [
        Spending.of(ChosenPatches('round 1', '', 4, chosen), edges()) for chosen in (half, every)
    ]
    of_images.append(Spending.of(ChosenPatches('round 2', '', 4, none), edges()))
    first, second = spending_table(of_images)
    assert first.chosen == pytest.approx(100 * 7 / 12)
    assert first.covered == pytest.approx(100 * 9 / 12)
    assert first.covered_random == pytest.approx(100 * (1 + 6) / 12)
    assert first.away == first.away_oracle == pytest.approx(100 * 3 / 7)
    assert second.covered == 0 and np.isnan(second.away)


def test_patches_must_be_those_of_the_image():
    with pytest.raises(ValueError, match=r'round 1: expected \(2, 3\) patches of 4 px'):
        Spending.of(ChosenPatches('round 1', '', 4, np.ones((2, 2), bool)), edges())
