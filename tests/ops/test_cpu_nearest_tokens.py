from __future__ import annotations

import pytest
import torch

from mmseg_arta.ops import nearest_tokens, nearest_tokens_of_cells
from mmseg_arta.ops.reference import nearest_tokens as reference
from mmseg_arta.ops.reference import nearest_window
from mmseg_arta.ops.registered import places as registered
from mmseg_arta.structures import TokenSet, offsets_from_lengths
from tests.helpers import some_tokens
from tests.ops.cpu_cases import poisoned, strided, with_threads
from tests.ops.kernels import cpu

pytestmark = pytest.mark.usefixtures('cpu_kernels')


def level_of(xy, lengths, size=4, kind='point'):
    offsets = offsets_from_lengths(lengths, xy.device)
    side = int(xy.max()) + 1 if len(xy) else 1
    return TokenSet(torch.zeros(len(xy), 1), xy.int(), offsets, lengths, size, (side, side), kind)


def check(places, counts, level, k):
    with poisoned():
        found = cpu.nearest_tokens(places, counts, level, k)
    expected = reference.nearest_tokens(places, counts, level.centers(), level.lengths, k)
    assert torch.equal(found, expected)


@pytest.mark.parametrize('seed', range(60))
def test_equal_to_the_reference(seed):
    torch.manual_seed(seed)

    def draw(low, high):
        return int(torch.randint(low, high, ()))

    lengths = tuple(draw(0, 300) for _ in range(draw(1, 4)))
    counts = tuple(draw(0, 100) for _ in lengths)
    xy = torch.randint(0, draw(1, 60), (sum(lengths), 2))  # several tokens may share a place
    places = torch.randint(-20, 140, (sum(counts), 2)) / 2
    check(places, counts, level_of(xy, lengths, 4 << draw(0, 4), 'patch'), draw(1, 12))


@pytest.mark.parametrize('k', [1, 4, 9])
def test_large_empty_areas(k):
    # Nearly all tokens in one corner, one in the opposite one, places everywhere.
    crowd = (torch.rand(500, 2) * 20).long()
    xy = torch.cat((crowd, torch.tensor([[255, 255]])))
    places = torch.randint(0, 256, (200, 2))
    check(places, (200,), level_of(xy, (501,)), k)


def test_places_that_are_no_halves():
    torch.manual_seed(0)
    level = level_of(torch.randint(0, 60, (400, 2)), (300, 100))
    check(torch.rand(150, 2, dtype=torch.float64) * 70 - 5, (100, 50), level, 5)


@pytest.mark.parametrize('lengths', [(), (0,), (0, 3, 0), (1,), (2, 1)], ids=str)
@pytest.mark.parametrize('places', [0, 1, 5])
def test_few_tokens(lengths, places):
    level = level_of(torch.randint(0, 5, (sum(lengths), 2)), lengths)
    counts = (places,) * len(lengths)
    check(torch.rand(sum(counts), 2) * 5, counts, level, 4)


def test_any_number_of_threads():
    level = some_tokens((900, 1500), (64, 64), 4)
    places = torch.randint(0, 64, (2000, 2))
    first, *others = with_threads(
        (1, 2, 4), lambda: [cpu.nearest_tokens(places, (1200, 800), level, 4)]
    )
    assert all(torch.equal(first[0], other[0]) for other in others)


def test_the_door_takes_this_back_end(monkeypatch):
    level = some_tokens((60, 9), (16, 16), 4)
    expected = nearest_window.nearest_tokens(level.centers(), level.lengths, level, 4)
    cells = nearest_tokens_of_cells(level, (16, 16), 4).rows
    monkeypatch.setattr(nearest_window, 'nearest_tokens', None)
    found = nearest_tokens(strided(level.centers()), level.lengths, level, 4).rows
    assert torch.equal(found, expected)
    assert torch.equal(nearest_tokens_of_cells(level, (16, 16), 4).rows, cells)


def test_opcheck():
    level = some_tokens((60, 0, 9), (16, 16), 4)
    places = torch.rand(20, 2) * 16
    given = (places, level.centers(), [10, 3, 7], [60, 0, 9], 4, 'cpu')
    torch.library.opcheck(registered.nearest_tokens, given)


def test_bad_inputs_are_named():
    level = some_tokens((60, 9), (16, 16), 4)
    given = torch.zeros(2, 2), level.centers()
    with pytest.raises(ValueError, match='level must be on meta as places is, found cpu'):
        nearest_tokens(torch.zeros(2, 2, device='meta'), (1, 1), level, 4)
    with pytest.raises(ValueError, match=r'places: expected a contiguous .* \(5, 2\)'):
        registered.nearest_tokens(*given, [2, 3], [60, 9], 4, 'cpu')
    with pytest.raises(ValueError, match=r'centers: expected a contiguous .* \(61, 2\)'):
        registered.nearest_tokens(*given, [1, 1], [60, 1], 4, 'cpu')
