"""The reference's search of nearest clusters against the definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_arta.ops.reference import bucket_search
from mmseg_arta.ops.reference.bucket_search import nearest_points
from mmseg_arta.ops.reference.clusters import (
    balanced_clusters,
    cluster_starts,
    compare_all_clusters,
    nearest_clusters,
)

SPREADS = {
    'uniform': lambda n, side: torch.randint(0, side, (n, 2)),
    'clumped': lambda n, side: (torch.rand(n, 2) ** 6 * side).long(),
    'grid': lambda n, side: torch.randint(0, side, (n, 2)) // 8 * 8,
    'line': lambda n, side: torch.randint(0, side, (n, 1)) * torch.tensor([[1, 0]]),
    'one place': lambda n, side: torch.full((n, 2), side // 2),
    'negative': lambda n, side: torch.randint(-side, side, (n, 2)),
}


def check(xy, lengths, cluster_size, num_neighbors):
    start = cluster_starts(torch.tensor(lengths), len(xy), cluster_size)
    arguments = (xy, start, lengths, cluster_size, num_neighbors)
    found = nearest_clusters(*arguments)
    assert torch.equal(found, compare_all_clusters(*arguments))
    return found


@settings(deadline=None, max_examples=150, derandomize=True)
@given(
    lengths=st.lists(st.sampled_from([0, 1, 2, 7, 8, 9, 60, 200]), min_size=1, max_size=4),
    spread=st.sampled_from(sorted(SPREADS)),
    side=st.integers(1, 200),
    cluster_size=st.integers(1, 9),
    num_neighbors=st.integers(1, 12),
    clustered=st.booleans(),
)
def test_equal_to_comparing_all(lengths, spread, side, cluster_size, num_neighbors, clustered):
    xy = torch.cat([SPREADS[spread](n, side) for n in lengths]).int()
    if clustered and spread != 'negative':
        image = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
        sizes = (torch.tensor(lengths), (side, side), cluster_size)
        xy = xy[balanced_clusters(xy, image, *sizes)[0]]
    check(xy, tuple(lengths), cluster_size, num_neighbors)


def test_missing_clusters_are_minus_one():
    found = check(torch.randint(0, 9, (20, 2)), (3, 17), 8, 6)
    assert found.shape == (20, 4)  # of 20 // 8 + 2 clusters at most
    assert (found[:3] >= 0).sum(1).tolist() == [1] * 3
    assert (found[3:] >= 0).sum(1).tolist() == [3] * 17


def test_of_equal_distances_the_lowest_cluster():
    # Four clusters of one token around the place, given in any order, and one on top of another.
    points = torch.tensor([[2, 0], [0, 2], [4, 2], [2, 4], [4, 2]])
    for order in (torch.arange(5), torch.tensor([4, 2, 0, 3, 1])):
        xy = torch.cat((points[order], torch.tensor([[2, 2]])))
        assert check(xy, (6,), 1, 5)[5].tolist() == [5, 0, 1, 2, 3]


def test_chunks_make_no_difference(monkeypatch):
    xy = SPREADS['clumped'](300, 90)
    whole = check(xy, (180, 120), 4, 6)
    monkeypatch.setattr(bucket_search, '_PAIRS_PER_CHUNK', 50)
    assert torch.equal(check(xy, (180, 120), 4, 6), whole)


@pytest.mark.parametrize('side', [64, 128])
def test_it_looks_at_few_clusters_of_many(side, monkeypatch):
    seen = []
    best = bucket_search.best
    monkeypatch.setattr(
        bucket_search, 'best', lambda found, *rest: seen.append(found.numel()) or best(found, *rest)
    )
    cells = torch.arange(side * side)
    xy = torch.stack((cells % side, cells // side), 1)
    image, counts = torch.zeros_like(cells), torch.tensor([len(cells)])
    order, start = balanced_clusters(xy, image, counts, (side, side), 8)
    nearest_clusters(xy[order], start, (len(cells),), 8, 6)
    assert sum(seen) < 60 * len(cells)


def test_fractions_and_no_rows():
    image = torch.zeros(50, dtype=torch.long)
    points, places = torch.rand(50, 2).double() * 40, torch.rand(20, 2).double() * 40
    found = nearest_points(points, image, places, image[:20], 4)
    expected = torch.cdist(places, points, compute_mode='donot_use_mm_for_euclid_dist')
    assert torch.equal(found, expected.topk(4, largest=False).indices)
    assert (nearest_points(points[:0], image[:0], places, image[:20], 4) == -1).all()
    assert nearest_points(points, image, places[:0], image[:0], 4).shape == (0, 4)
