from __future__ import annotations

import pytest
import torch

from mmseg_arta.structures import (
    MixedTokens,
    TokenMaps,
    TokenSet,
    at_least_one,
    batch_index,
    full_grid,
    offsets_from_lengths,
    tokens_of,
)

CPU = torch.device('cpu')


@pytest.mark.parametrize('lengths', [(3, 2), (0, 4, 0, 1), (0,), (5,)], ids=str)
def test_batch_index_counts_rows_per_image(lengths):
    offsets = offsets_from_lengths(lengths, CPU)
    index = batch_index(offsets, sum(lengths))
    expected = [image for image, length in enumerate(lengths) for _ in range(length)]
    assert index.tolist() == expected


@pytest.mark.parametrize('patch_size, shift', [(4, 0.0), (8, 0.5), (32, 3.5)])
def test_centers_are_patch_centres(patch_size, shift):
    level = TokenSet.from_map(torch.zeros(1, 2, 2, 3), patch_size)
    assert torch.equal(level.centers(), level.xy + shift)


def test_points_are_their_own_centres():
    level = TokenSet.from_map(torch.zeros(1, 2, 2, 3), 16)
    point = TokenSet(level.feats, level.xy, level.offsets, level.lengths, 16, level.grid, 'point')
    assert torch.equal(point.centers(), level.xy.float())


def test_from_map_is_raster_order_per_image():
    maps = torch.arange(2 * 1 * 2 * 3.0).view(2, 1, 2, 3)
    level = TokenSet.from_map(maps, 8)
    assert level.feats[:, 0].tolist() == list(range(12))
    assert level.xy[:6].tolist() == [[0, 0], [2, 0], [4, 0], [0, 2], [2, 2], [4, 2]]
    assert torch.equal(level.xy, full_grid(2, (2, 3), 8, CPU))
    assert level.lengths == (6, 6)


@pytest.mark.parametrize('patch_size', [2, 14])
def test_cells_between_places_are_refused(patch_size):
    with pytest.raises(ValueError, match=f'multiple of 4, found {patch_size}'):
        TokenSet.from_map(torch.zeros(1, 2, 2, 3), patch_size)


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(feats=torch.zeros(3, 2)), 'feats must be'),
        (dict(xy=torch.zeros(4, 3)), 'xy must be'),
        (dict(offsets=torch.zeros(4)), 'offsets must be'),
        (dict(kind='pixel'), "kind must be 'patch' or 'point'"),
    ],
)
def test_inconsistent_fields_are_refused(change, message):
    good = dict(
        feats=torch.zeros(4, 2),
        xy=torch.zeros(4, 2, dtype=torch.int32),
        offsets=torch.tensor([0, 1, 4]),
        lengths=(1, 3),
        patch_size=8,
        grid=(2, 2),
    )
    TokenSet(**good)
    with pytest.raises(ValueError, match=message):
        TokenSet(**{**good, **change})


def test_tokens_of_finds_tokens_or_says_what_is_missing():
    tokens = MixedTokens((TokenSet.from_map(torch.zeros(1, 2, 1, 1), 32),), (30, 20), (32, 32))
    assert tokens_of(tokens) is tokens
    maps = TokenMaps([torch.zeros(1)], tokens)
    assert tokens_of(maps) is tokens and isinstance(maps, list) and len(maps) == 1
    with pytest.raises(TypeError, match='TokensToMaps'):
        tokens_of([torch.zeros(1)])


@pytest.mark.parametrize('rows', [0, 1, 3])
def test_at_least_one_row_to_point_into(rows):
    given = torch.randn(rows, 2)
    found = at_least_one(given)
    assert torch.equal(found, given if rows else torch.zeros(1, 2))
    # One graph for any number: nothing in it depends on how many there are.
    compiled = torch.compile(at_least_one, backend='eager', fullgraph=True)
    assert torch.equal(compiled(given), torch.cat((given, torch.zeros(1, 2))))
