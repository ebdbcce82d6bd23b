"""Nearest clusters: every search against comparing all pairs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseg_arta.ops import balanced_clusters, bucket_search, library, nearest_clusters
from mmseg_arta.ops.balanced_clusters.reference import cluster_starts
from mmseg_arta.ops.bucket_search import nearest_points
from mmseg_arta.ops.nearest_clusters import kernels, reference
from tests.ops.kernels import cpu, pytorch


def uniform(count, side):
    return torch.randint(0, side, (count, 2))


def clumped(count, side):
    """Most tokens in one corner, few far away: buckets from empty to crowded."""
    return (torch.rand(count, 2) ** 6 * side).int()


def on_a_line(count, side):
    return torch.stack((torch.randint(0, side, (count,)), torch.full((count,), side // 3)), 1)


def one_place(count, side):
    return torch.full((count, 2), side // 2)


def on_a_grid(count, side):
    """Every place several times and many equal distances."""
    return uniform(count, side) // 8 * 8


SPREADS_OF_PLACES = (uniform, clumped, on_a_line, one_place, on_a_grid)


def clustered(lengths, places, side, cluster_size=8):
    """Places in cluster order and the first row of every cluster."""
    xy = torch.cat([places(n, side) for n in lengths]).int()
    batch = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    order, start = balanced_clusters(xy, batch, torch.tensor(lengths), (side, side), cluster_size)
    return xy[order].contiguous(), start


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize('places', SPREADS_OF_PLACES, ids=lambda p: p.__name__)
@pytest.mark.parametrize('seed', range(30))
def test_cpu_equal_to_the_reference(places, seed):
    torch.manual_seed(seed)
    lengths = tuple(torch.randint(0, 400, (int(torch.randint(1, 4, ())),)).tolist())
    width, cluster_size = int(torch.randint(1, 10, ())), int(torch.randint(1, 12, ()))
    xy, start = clustered(lengths, places, int(torch.randint(9, 300, ())), cluster_size)
    found = cpu.nearest_clusters(xy, start, lengths, cluster_size, width)
    assert torch.equal(found, reference.nearest_clusters(xy, start, lengths, cluster_size, width))


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize('lengths', [(), (0,), (0, 3, 0), (1,), (1, 1), (8,), (9, 0, 17)], ids=str)
def test_cpu_few_tokens(lengths):
    xy, start = (
        clustered(lengths, uniform, 16)
        if lengths
        else (torch.zeros((0, 2), dtype=torch.int32), torch.zeros(1, dtype=torch.int64))
    )
    found = cpu.nearest_clusters(xy, start, lengths, 8, 6)
    assert torch.equal(found, reference.nearest_clusters(xy, start, lengths, 8, 6))


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_any_number_of_threads():
    lengths = (20000, 12345)
    xy, start = clustered(lengths, on_a_grid, 1024)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append(cpu.nearest_clusters(xy, start, lengths, 8, 6))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])


@pytest.mark.usefixtures('cpu_kernels')
def test_is_taken(monkeypatch):
    xy, start = clustered((50,), uniform, 16)
    monkeypatch.setitem(kernels.FORWARD, 'reference', None)
    found = nearest_clusters(xy, start, (50,))
    assert found.shape == (50, 6)
    assert torch.equal(nearest_clusters(xy.long(), start, (50,)), found)


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_opcheck():
    xy, start = clustered((50, 0, 31), uniform, 64)
    torch.library.opcheck(kernels.forward, (xy, start, [50, 0, 31], 8, 6, 'cpu'))


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_lengths_are_checked():
    xy, start = clustered((20,), uniform, 16)
    with pytest.raises(ValueError, match=r'lengths must have a sum of 20, .* found 19'):
        cpu.nearest_clusters(xy, start, (19,), 8, 6)
    with pytest.raises(ValueError, match=r'start must hold numbers of torch.int64'):
        cpu.nearest_clusters(xy, start.int(), (20,), 8, 6)


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_out_of_memory_is_an_error(monkeypatch):
    monkeypatch.setattr(library.cpu.loaded(), 'arta_nearest_clusters', lambda *arguments: 1)
    xy, start = clustered((20,), uniform, 16)
    with pytest.raises(MemoryError, match='arta_nearest_clusters could not get memory'):
        cpu.nearest_clusters(xy, start, (20,), 8, 6)


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
    found = pytorch.nearest_clusters(*arguments)
    assert torch.equal(found, reference.nearest_clusters(*arguments))
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
def test_pytorch_equal_to_comparing_all(
    lengths, spread, side, cluster_size, num_neighbors, clustered
):
    xy = torch.cat([SPREADS[spread](n, side) for n in lengths]).int()
    if clustered and spread != 'negative':
        image = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
        sizes = (torch.tensor(lengths), (side, side), cluster_size)
        xy = xy[balanced_clusters(xy, image, *sizes)[0]]
    check(xy, tuple(lengths), cluster_size, num_neighbors)


def test_pytorch_missing_clusters_are_minus_one():
    found = check(torch.randint(0, 9, (20, 2)), (3, 17), 8, 6)
    assert found.shape == (20, 4)  # of 20 // 8 + 2 clusters at most
    assert (found[:3] >= 0).sum(1).tolist() == [1] * 3
    assert (found[3:] >= 0).sum(1).tolist() == [3] * 17


def test_pytorch_of_equal_distances_the_lowest_cluster():
    # Four clusters of one token around the place, given in any order, and one on top of another.
    points = torch.tensor([[2, 0], [0, 2], [4, 2], [2, 4], [4, 2]])
    for order in (torch.arange(5), torch.tensor([4, 2, 0, 3, 1])):
        xy = torch.cat((points[order], torch.tensor([[2, 2]])))
        assert check(xy, (6,), 1, 5)[5].tolist() == [5, 0, 1, 2, 3]


def test_pytorch_chunks_make_no_difference(monkeypatch):
    xy = SPREADS['clumped'](300, 90)
    whole = check(xy, (180, 120), 4, 6)
    monkeypatch.setattr(bucket_search, 'PAIRS_PER_CHUNK', 50)
    assert torch.equal(check(xy, (180, 120), 4, 6), whole)


@pytest.mark.parametrize('side', [64, 128])
def test_pytorch_it_looks_at_few_clusters_of_many(side, monkeypatch):
    seen = []
    best = bucket_search.best
    monkeypatch.setattr(
        bucket_search, 'best', lambda found, *rest: seen.append(found.numel()) or best(found, *rest)
    )
    cells = torch.arange(side * side)
    xy = torch.stack((cells % side, cells // side), 1)
    image, counts = torch.zeros_like(cells), torch.tensor([len(cells)])
    order, start = balanced_clusters(xy, image, counts, (side, side), 8)
    pytorch.nearest_clusters(xy[order], start, (len(cells),), 8, 6)
    assert sum(seen) < 60 * len(cells)


def test_pytorch_fractions_and_no_rows():
    image = torch.zeros(50, dtype=torch.long)
    points, places = torch.rand(50, 2).double() * 40, torch.rand(20, 2).double() * 40
    found = nearest_points(points, image, places, image[:20], 4)
    expected = torch.cdist(places, points, compute_mode='donot_use_mm_for_euclid_dist')
    assert torch.equal(found, expected.topk(4, largest=False).indices)
    assert (nearest_points(points[:0], image[:0], places, image[:20], 4) == -1).all()
    assert nearest_points(points, image, places[:0], image[:0], 4).shape == (0, 4)
