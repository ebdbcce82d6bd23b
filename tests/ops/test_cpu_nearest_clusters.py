from __future__ import annotations

import pytest
import torch

from mmseg_arta.ops import balanced_clusters, nearest_clusters
from mmseg_arta.ops.cpu import library
from mmseg_arta.ops.reference import clusters as reference
from mmseg_arta.ops.registered import places as registered
from tests.ops.kernels import cpu

pytestmark = pytest.mark.usefixtures('cpu_kernels')


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


PLACES = (uniform, clumped, on_a_line, one_place, on_a_grid)


def clustered(lengths, places, side, cluster_size=8):
    """Places in cluster order and the first row of every cluster."""
    xy = torch.cat([places(n, side) for n in lengths]).int()
    batch = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    order, start = balanced_clusters(xy, batch, torch.tensor(lengths), (side, side), cluster_size)
    return xy[order].contiguous(), start


@pytest.mark.parametrize('places', PLACES, ids=lambda p: p.__name__)
@pytest.mark.parametrize('seed', range(30))
def test_equal_to_the_reference(places, seed):
    torch.manual_seed(seed)
    lengths = tuple(torch.randint(0, 400, (int(torch.randint(1, 4, ())),)).tolist())
    width, cluster_size = int(torch.randint(1, 10, ())), int(torch.randint(1, 12, ()))
    xy, start = clustered(lengths, places, int(torch.randint(9, 300, ())), cluster_size)
    found = cpu.nearest_clusters(xy, start, lengths, cluster_size, width)
    assert torch.equal(found, reference.nearest_clusters(xy, start, lengths, cluster_size, width))


@pytest.mark.parametrize('lengths', [(), (0,), (0, 3, 0), (1,), (1, 1), (8,), (9, 0, 17)], ids=str)
def test_few_tokens(lengths):
    xy, start = (
        clustered(lengths, uniform, 16)
        if lengths
        else (torch.zeros((0, 2), dtype=torch.int32), torch.zeros(1, dtype=torch.int64))
    )
    found = cpu.nearest_clusters(xy, start, lengths, 8, 6)
    assert torch.equal(found, reference.nearest_clusters(xy, start, lengths, 8, 6))


def test_any_number_of_threads():
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


def test_the_door_takes_this_back_end(monkeypatch):
    xy, start = clustered((50,), uniform, 16)
    monkeypatch.setattr(reference, 'nearest_clusters', None)
    found = nearest_clusters(xy, start, (50,))
    assert found.shape == (50, 6)
    assert torch.equal(nearest_clusters(xy.long(), start, (50,)), found)


def test_opcheck():
    xy, start = clustered((50, 0, 31), uniform, 64)
    torch.library.opcheck(registered.nearest_clusters, (xy, start, [50, 0, 31], 8, 6, 'cpu'))


def test_lengths_are_checked():
    xy, start = clustered((20,), uniform, 16)
    with pytest.raises(ValueError, match=r'lengths: expected a sum of 20, .* found 19'):
        cpu.nearest_clusters(xy, start, (19,), 8, 6)
    with pytest.raises(ValueError, match=r'start: expected a contiguous torch.int64'):
        cpu.nearest_clusters(xy, start.int(), (20,), 8, 6)


def test_out_of_memory_is_an_error(monkeypatch):
    monkeypatch.setattr(library.library(), 'arta_nearest_clusters', lambda *arguments: 1)
    xy, start = clustered((20,), uniform, 16)
    with pytest.raises(MemoryError, match='arta_nearest_clusters could not get memory'):
        cpu.nearest_clusters(xy, start, (20,), 8, 6)
