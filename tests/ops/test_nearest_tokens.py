from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mmseg_arta.ops import inverse_distance_weights, nearest_tokens, nearest_tokens_of_cells
from mmseg_arta.ops.reference import nearest_tokens as reference
from mmseg_arta.ops.reference import nearest_window
from mmseg_arta.structures import NearestTokens
from tests.helpers import grid_tokens, some_tokens


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
def test_windows_find_what_comparing_with_all_tokens_finds(lengths, k, size, kind):
    level = some_tokens(lengths, (20, 20), size, kind=kind)
    # Rows in any order: the lowest one still wins among equals.
    order = torch.cat([torch.randperm(lengths[0]), torch.randperm(lengths[1]) + lengths[0]])
    level = replace(level, xy=level.xy[order])
    counts = (150, 120)
    places = torch.randint(-16, 10 * size + 16, (sum(counts), 2)) / 2
    found = nearest_window.nearest_tokens(places, counts, level, k)
    every = reference.nearest_tokens(places, counts, level.centers(), lengths, k)
    assert torch.equal(found, every)


def test_chunks_make_no_difference(monkeypatch):
    level = some_tokens((40, 11), (8, 8), 4)
    whole = nearest_tokens_of_cells(level, (8, 8), 4).rows
    for module in (nearest_window, reference):
        monkeypatch.setattr(module, '_PAIRS_PER_CHUNK', 100)
    assert torch.equal(nearest_tokens_of_cells(level, (8, 8), 4).rows, whole)


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
    with pytest.raises(ValueError, match='places of 1 images, tokens of 2'):
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
def test_large_empty_areas(where, k, monkeypatch):
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
    compared = []
    brute = nearest_window._whole_image
    monkeypatch.setattr(
        nearest_window,
        '_whole_image',
        lambda *args: compared.append(args) or brute(*args),
    )
    assert torch.equal(nearest_window.nearest_tokens(places, (60, 60), level, k), every)
    assert torch.equal(nearest_tokens(places, (60, 60), level, k).rows, every)
    # Never compared with all tokens unless these are fewer than what a search looks at.
    assert not compared or len(xy) <= level.grid[0] * level.unit * 2 * k
