"""Balanced clusters: every back end against the reference."""

from __future__ import annotations

import pytest
import torch

from mmseg_arta.ops import balanced_clusters
from mmseg_arta.ops.balanced_clusters import kernels, reference
from mmseg_arta.ops.nearest_clusters import reference as nearest_reference
from tests.helpers import mixed_places
from tests.ops.helpers import (
    poisoned,
    strided,
    with_threads,
)
from tests.ops.kernels import cpu, cuda


def make(lengths, canvas, level=0, seed=0):
    """Interleaved images; with a level, many tokens share a place."""
    xy, batch, counts = mixed_places(lengths, canvas, seed)
    return (xy >> level << level).int(), batch, counts


def check(case, canvas, cluster_size):
    with poisoned():
        found = cpu.balanced_clusters(*case, canvas, cluster_size)
    expected = reference.balanced_clusters(*case, canvas, cluster_size)
    assert all(map(torch.equal, found, expected))


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize('seed', range(100))
def test_cpu_equal_to_the_reference(seed):
    torch.manual_seed(seed)

    def draw(low, high):
        return int(torch.randint(low, high, ()))

    lengths = tuple(draw(0, 400) for _ in range(draw(1, 5)))
    canvas = (draw(1, 150), draw(1, 300))
    check(make(lengths, canvas, draw(0, 4), seed), canvas, draw(1, 14))


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize(
    'lengths', [(0,), (1,), (0, 3, 0), (1, 1), (8,), (7, 0, 17), (5003, 2)], ids=str
)
@pytest.mark.parametrize('canvas', [(1, 1), (64, 64), (3, 500)], ids=str)
def test_cpu_few_and_many_tokens(lengths, canvas):
    check(make(lengths, canvas), canvas, 8)


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_any_number_of_threads():
    case = make((20000, 12345), (256, 512), 1)
    first, *others = with_threads(
        (1, 2, 5), lambda: list(cpu.balanced_clusters(*case, (256, 512), 8))
    )
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_strided_inputs():
    xy, batch, counts = make((90, 31), (64, 64))
    found = cpu.balanced_clusters(
        strided(xy.long()), strided(batch), strided(counts.int()), (64, 64), 8
    )
    assert all(map(torch.equal, found, cpu.balanced_clusters(xy, batch, counts, (64, 64), 8)))


@pytest.mark.usefixtures('cpu_kernels')
def test_is_taken(monkeypatch):
    case = make((50,), (16, 16))
    monkeypatch.setitem(kernels.FORWARD, 'reference', None)
    assert len(balanced_clusters(*case, (16, 16))[0]) == 50


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize('lengths', [(50, 0, 31), (0,)], ids=str)
def test_cpu_opcheck(lengths):
    given = (*make(lengths, (64, 32)), 64, 32, 8, 'cpu')
    torch.library.opcheck(kernels.forward, given)


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_bad_inputs_are_named():
    xy, batch, counts = make((50,), (16, 16))
    with pytest.raises(ValueError, match='xy must hold integers'):
        balanced_clusters(xy.float(), batch, counts, (16, 16))
    with pytest.raises(ValueError, match=r'batch must be torch.int64, found torch.int32'):
        balanced_clusters(xy, batch.int(), counts, (16, 16))
    with pytest.raises(ValueError, match=r'xy must be \(50, 2\)'):
        balanced_clusters(xy[:9], batch, counts, (16, 16))
    with pytest.raises(ValueError, match='counts must be on cpu as xy is, found meta'):
        balanced_clusters(xy, batch, counts.to('meta'), (16, 16))
    with pytest.raises(IndexError, match='batch must hold numbers from 0 to 0, found 1'):
        balanced_clusters(xy, batch + 1, counts, (16, 16))


@pytest.mark.usefixtures('emulated_cuda')
@pytest.mark.parametrize('lengths', [(40, 7, 123), (1,), (0, 9), (300, 5)], ids=str)
@pytest.mark.parametrize('canvas', [(24, 40), (1, 1), (3, 90)], ids=str)
def test_cuda_clusters(lengths, canvas):
    xy, batch, counts = mixed_places(lengths, canvas)
    found = cuda.balanced_clusters(xy, batch, counts, canvas, 8)
    order, start = reference.balanced_clusters(xy, batch, counts, canvas, 8)
    assert torch.equal(found[0], order) and torch.equal(found[1], start)
    clustered = xy[order]
    nearest = cuda.nearest_clusters(clustered, start, lengths, 8, 6)
    assert torch.equal(nearest, nearest_reference.nearest_clusters(clustered, start, lengths, 8, 6))
