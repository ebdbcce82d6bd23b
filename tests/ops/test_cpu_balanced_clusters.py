from __future__ import annotations

import pytest
import torch

from mmseg_arta.ops import balanced_clusters
from mmseg_arta.ops.reference import clusters as reference
from mmseg_arta.ops.registered import places as registered
from tests.helpers import mixed_places
from tests.ops.cpu_cases import poisoned, strided, with_threads
from tests.ops.kernels import cpu

pytestmark = pytest.mark.usefixtures('cpu_kernels')


def make(lengths, canvas, level=0, seed=0):
    """Interleaved images; with a level, many tokens share a place."""
    xy, batch, counts = mixed_places(lengths, canvas, seed)
    return (xy >> level << level).int(), batch, counts


def check(case, canvas, cluster_size):
    with poisoned():
        found = cpu.balanced_clusters(*case, canvas, cluster_size)
    expected = reference.balanced_clusters(*case, canvas, cluster_size)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize('seed', range(100))
def test_equal_to_the_reference(seed):
    torch.manual_seed(seed)

    def draw(low, high):
        return int(torch.randint(low, high, ()))

    lengths = tuple(draw(0, 400) for _ in range(draw(1, 5)))
    canvas = (draw(1, 150), draw(1, 300))
    check(make(lengths, canvas, draw(0, 4), seed), canvas, draw(1, 14))


@pytest.mark.parametrize(
    'lengths', [(0,), (1,), (0, 3, 0), (1, 1), (8,), (7, 0, 17), (5003, 2)], ids=str
)
@pytest.mark.parametrize('canvas', [(1, 1), (64, 64), (3, 500)], ids=str)
def test_few_and_many_tokens(lengths, canvas):
    check(make(lengths, canvas), canvas, 8)


def test_any_number_of_threads():
    case = make((20000, 12345), (256, 512), 1)
    first, *others = with_threads(
        (1, 2, 5), lambda: list(cpu.balanced_clusters(*case, (256, 512), 8))
    )
    assert all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


def test_strided_inputs():
    xy, batch, counts = make((90, 31), (64, 64))
    found = cpu.balanced_clusters(
        strided(xy.long()), strided(batch), strided(counts.int()), (64, 64), 8
    )
    assert all(map(torch.equal, found, cpu.balanced_clusters(xy, batch, counts, (64, 64), 8)))


def test_the_door_takes_this_back_end(monkeypatch):
    case = make((50,), (16, 16))
    monkeypatch.setattr(reference, 'balanced_clusters', None)
    assert len(balanced_clusters(*case, (16, 16))[0]) == 50


@pytest.mark.parametrize('lengths', [(50, 0, 31), (0,)], ids=str)
def test_opcheck(lengths):
    given = (*make(lengths, (64, 32)), 64, 32, 8, 'cpu')
    torch.library.opcheck(registered.balanced_clusters, given)


def test_bad_inputs_are_named():
    xy, batch, counts = make((50,), (16, 16))
    with pytest.raises(ValueError, match='xy must hold integers'):
        balanced_clusters(xy.float(), batch, counts, (16, 16))
    with pytest.raises(ValueError, match=r'batch must be torch.int64, found torch.int32'):
        balanced_clusters(xy, batch.int(), counts, (16, 16))
    with pytest.raises(ValueError, match=r'xy must be \(50, 2\)'):
        balanced_clusters(xy[:9], batch, counts, (16, 16))
    with pytest.raises(ValueError, match='counts must be on cpu as xy is, found meta'):
        balanced_clusters(xy, batch, counts.to('meta'), (16, 16))
    with pytest.raises(IndexError, match='index out of range'):
        balanced_clusters(xy, batch + 1, counts, (16, 16))
