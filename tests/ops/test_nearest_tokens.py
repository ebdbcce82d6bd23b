"""Nearest tokens against their definition, and every search against comparing all pairs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mmseg_arta.ops import (
    bucket_search,
    inverse_distance_weights,
    nearest_tokens,
    nearest_tokens_of_cells,
)
from mmseg_arta.ops.nearest_tokens import kernels, reference
from mmseg_arta.structures import NearestTokens, TokenSet, offsets_from_lengths
from tests.helpers import grid_tokens, some_tokens
from tests.ops.helpers import poisoned, strided, with_threads
from tests.ops.kernels import cpu, pytorch


def plain(places, place_lengths, level, k):
    """The definition, place by place: sort all tokens of the image by (distance, row)."""
    centers, row, out = level.centers().tolist(), 0, []
    for image, count in enumerate(place_lengths):
        first = sum(level.lengths[:image])
        for x, y in places[row : row + count].tolist():
            own = range(first, first + level.lengths[image])
            ranked = sorted(
                own, key=lambda i: ((centers[i][0] - x) ** 2 + (centers[i][1] - y) ** 2, i)
            )
            out.append((ranked + [-1] * k)[:k])
        row += count
    return torch.tensor(out).view(-1, k)


@pytest.mark.parametrize('lengths', [(9, 2, 0, 20), (30,), (0, 0)], ids=str)
@pytest.mark.parametrize('k', [1, 4, 9])
def test_matches_the_definition(lengths, k):
    level = some_tokens(lengths, (6, 7), 8)
    counts = tuple(5 + image for image in range(len(lengths)))
    places = torch.randint(0, 28, (sum(counts), 2)) / 2
    found = nearest_tokens(places, counts, level, k)
    assert torch.equal(found.rows, plain(places, counts, level, k))
    assert torch.equal(found.valid(), found.rows >= 0)


@pytest.mark.parametrize('kind', ['patch', 'point'])
@pytest.mark.parametrize('size', [4, 16])
@pytest.mark.parametrize('lengths', [(300, 1), (40, 200), (399, 0)], ids=str)
@pytest.mark.parametrize('k', [1, 4, 9])
def test_buckets_find_what_comparing_with_all_tokens_finds(lengths, k, size, kind):
    level = some_tokens(lengths, (20, 20), size, kind=kind)
    # Rows in any order: the lowest one still wins among equals.
    order = torch.cat([torch.randperm(lengths[0]), torch.randperm(lengths[1]) + lengths[0]])
    level = replace(level, xy=level.xy[order])
    counts = (150, 120)
    places = torch.randint(-16, 10 * size + 16, (sum(counts), 2)) / 2
    found = pytorch.nearest_tokens(places, counts, level, k)
    every = reference.nearest_tokens(places, counts, level.centers(), lengths, k)
    assert torch.equal(found, every)


def test_chunks_make_no_difference(monkeypatch):
    monkeypatch.setenv('MMSEG_ARTA_OPS', 'reference')
    level = some_tokens((40, 11), (8, 8), 4)
    whole = nearest_tokens_of_cells(level, (8, 8), 4).rows
    centers = level.centers()
    every = reference.nearest_tokens(centers, level.lengths, centers, level.lengths, 4)
    for module in (bucket_search, reference):
        monkeypatch.setattr(module, 'PAIRS_PER_CHUNK', 100)
    assert torch.equal(nearest_tokens_of_cells(level, (8, 8), 4).rows, whole)
    chunked = reference.nearest_tokens(centers, level.lengths, centers, level.lengths, 4)
    assert torch.equal(chunked, every)


def test_cells_are_in_raster_order_and_the_lowest_row_wins():
    level = grid_tokens(2, (2, 3), 8)  # centres at 0.5 and 2.5, and 4.5 along x
    rows = nearest_tokens_of_cells(level, (4, 6), 1).rows
    assert rows.shape == (2, 4, 6, 1)
    assert rows[0, :, :, 0].tolist() == [[0, 0, 1, 1, 2, 2]] * 2 + [[3, 3, 4, 4, 5, 5]] * 2
    assert torch.equal(rows[1], rows[0] + 6)
    middle = nearest_tokens(torch.tensor([[1.5, 1.5], [1.5, 1.5]]), (1, 1), level, 4)
    assert middle.rows.tolist() == [[0, 1, 3, 4], [6, 7, 9, 10]]


def test_shift_keeps_missing_neighbours():
    found = NearestTokens(torch.tensor([[3, -1]]))
    assert found.k == 2
    assert found.shifted(10).tolist() == [[13, -1]]


def test_bad_input_is_named():
    level = grid_tokens(2, (2, 2), 8)
    with pytest.raises(ValueError, match='k must be at least 1, found 0'):
        nearest_tokens(torch.zeros(2, 2), (1, 1), level, 0)
    with pytest.raises(ValueError, match='place_lengths are of 1 images, the tokens of 2'):
        nearest_tokens(torch.zeros(2, 2), (2,), level, 1)
    with pytest.raises(ValueError, match=r'places must be \(3, 2\)'):
        nearest_tokens(torch.zeros(2, 2), (2, 1), level, 1)


def test_weights_sum_to_one_and_skip_missing_tokens():
    squared = torch.tensor([[1.0, 4.0, 9.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
    valid = torch.tensor([[True, True, False], [True, True, True]])
    weights = inverse_distance_weights(squared, valid, 1.0, floor=0.01, eps=0.0)
    expected = torch.tensor([[0.8, 0.2, 0.0], [100 / 102, 1 / 102, 1 / 102]]).double()
    torch.testing.assert_close(weights, expected)
    assert not inverse_distance_weights(squared, valid & False, 3.0).any()


def test_weights_fade_where_all_tokens_are_far():
    squared, valid = torch.tensor([[400.0]]), torch.tensor([[True]])
    assert float(inverse_distance_weights(squared, valid, 3.0)) < 0.05
    assert float(inverse_distance_weights(squared / 400, valid, 3.0)) > 0.99


@pytest.mark.parametrize('where', ['corner', 'edges', 'lattice', 'far_column'])
@pytest.mark.parametrize('k', [1, 2, 4])
def test_large_empty_areas(where, k):
    side = 80
    code = torch.arange(side * side)
    x, y = code % side, code // side
    kept = {
        'corner': (x < 24) & (y < 24),
        'edges': (x == 0) | (y == side - 1),
        'lattice': (x % 16 == 0) & (y % 16 == 0) | (x > 70),
        'far_column': x > 71,
    }[where]
    xy = torch.stack((x, y), 1)[kept].int()
    lengths = (len(xy), len(xy))
    level = replace(
        some_tokens((1, 1), (side // 8 + 1, side // 8), 32, kind='point'),
        feats=torch.zeros(2 * len(xy), 1),
        xy=torch.cat((xy, xy.flip(0))),
        offsets=torch.tensor([0, len(xy), 2 * len(xy)], dtype=torch.int32),
        lengths=lengths,
    )
    places = torch.rand(120, 2) * (side + 20) - 10
    places[::2] = places[::2].round()
    every = reference.nearest_tokens(places, (60, 60), level.centers(), lengths, k)
    assert torch.equal(pytorch.nearest_tokens(places, (60, 60), level, k), every)
    assert torch.equal(nearest_tokens(places, (60, 60), level, k).rows, every)


def level_of(xy, lengths, size=4, kind='point'):
    offsets = offsets_from_lengths(lengths, xy.device)
    side = int(xy.max()) + 1 if len(xy) else 1
    return TokenSet(torch.zeros(len(xy), 1), xy.int(), offsets, lengths, size, (side, side), kind)


def check(places, counts, level, k):
    with poisoned():
        found = cpu.nearest_tokens(places, counts, level, k)
    expected = reference.nearest_tokens(places, counts, level.centers(), level.lengths, k)
    assert torch.equal(found, expected)


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize('seed', range(60))
def test_cpu_equal_to_the_reference(seed):
    torch.manual_seed(seed)

    def draw(low, high):
        return int(torch.randint(low, high, ()))

    lengths = tuple(draw(0, 300) for _ in range(draw(1, 4)))
    counts = tuple(draw(0, 100) for _ in lengths)
    xy = torch.randint(0, draw(1, 60), (sum(lengths), 2))  # several tokens may share a place
    places = torch.randint(-20, 140, (sum(counts), 2)) / 2
    check(places, counts, level_of(xy, lengths, 4 << draw(0, 4), 'patch'), draw(1, 12))


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize('k', [1, 4, 9])
def test_cpu_large_empty_areas(k):
    # Nearly all tokens in one corner, one in the opposite one, places everywhere.
    crowd = (torch.rand(500, 2) * 20).long()
    xy = torch.cat((crowd, torch.tensor([[255, 255]])))
    places = torch.randint(0, 256, (200, 2))
    check(places, (200,), level_of(xy, (501,)), k)


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_places_that_are_no_halves():
    torch.manual_seed(0)
    level = level_of(torch.randint(0, 60, (400, 2)), (300, 100))
    check(torch.rand(150, 2, dtype=torch.float64) * 70 - 5, (100, 50), level, 5)


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize('lengths', [(), (0,), (0, 3, 0), (1,), (2, 1)], ids=str)
@pytest.mark.parametrize('places', [0, 1, 5])
def test_cpu_few_tokens(lengths, places):
    level = level_of(torch.randint(0, 5, (sum(lengths), 2)), lengths)
    counts = (places,) * len(lengths)
    check(torch.rand(sum(counts), 2) * 5, counts, level, 4)


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_any_number_of_threads():
    level = some_tokens((900, 1500), (64, 64), 4)
    places = torch.randint(0, 64, (2000, 2))
    first, *others = with_threads(
        (1, 2, 4), lambda: [cpu.nearest_tokens(places, (1200, 800), level, 4)]
    )
    assert all(torch.equal(first[0], other[0]) for other in others)


@pytest.mark.usefixtures('cpu_kernels')
def test_is_taken(monkeypatch):
    level = some_tokens((60, 9), (16, 16), 4)
    expected = pytorch.nearest_tokens(level.centers(), level.lengths, level, 4)
    cells = nearest_tokens_of_cells(level, (16, 16), 4).rows
    monkeypatch.setitem(kernels.FORWARD, 'reference', None)
    found = nearest_tokens(strided(level.centers()), level.lengths, level, 4).rows
    assert torch.equal(found, expected)
    assert torch.equal(nearest_tokens_of_cells(level, (16, 16), 4).rows, cells)


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_opcheck():
    level = some_tokens((60, 0, 9), (16, 16), 4)
    places = torch.rand(20, 2) * 16
    given = (places, level.centers(), [10, 3, 7], [60, 0, 9], 4, 'cpu')
    torch.library.opcheck(kernels.forward, given)


@pytest.mark.usefixtures('cpu_kernels')
def test_cpu_bad_inputs_are_named():
    level = some_tokens((60, 9), (16, 16), 4)
    given = torch.zeros(2, 2), level.centers()
    with pytest.raises(ValueError, match='level must be on meta as places is, found cpu'):
        nearest_tokens(torch.zeros(2, 2, device='meta'), (1, 1), level, 4)
    with pytest.raises(ValueError, match=r'place_lengths must have a sum of 2, .* places, found 5'):
        kernels.forward(*given, [2, 3], [60, 9], 4, 'cpu')
    with pytest.raises(ValueError, match=r'lengths must have a sum of 69, .* centers, found 61'):
        kernels.forward(*given, [1, 1], [60, 1], 4, 'cpu')


@pytest.mark.usefixtures('emulated_cuda')
@pytest.mark.parametrize('k', [1, 3, 9, 16])
def test_cuda_nearest_tokens(k):
    torch.manual_seed(k)
    lengths, counts = (150, 2, 0, 40), (30, 20, 5, 40)
    centers = torch.randint(0, 60, (sum(lengths), 2)) / 2
    at = torch.randint(-20, 160, (sum(counts), 2)) / 4
    found = kernels.forward(at, centers, counts, lengths, k, 'cuda')
    assert torch.equal(found, reference.nearest_tokens(at, counts, centers, lengths, k))


def test_cuda_sizes_that_there_are_not_are_named():
    assert '17 neighbours' in kernels.unsupported_on_cuda(17)
