from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mmseg_arta.ops import finest_token_map
from mmseg_arta.structures import TokenSet, offsets_from_lengths
from tests.helpers import grid_tokens


def level(xy, lengths, patch_size, grid):
    xy = torch.as_tensor(xy, dtype=torch.int32).view(-1, 2)
    return TokenSet(
        torch.zeros(len(xy), 1),
        xy,
        offsets_from_lengths(lengths, xy.device),
        lengths,
        patch_size,
        grid,
    )


def test_the_finest_token_wins():
    # Two images of 16x16 px: 8 px tokens everywhere, 4 px ones at one place of each.
    coarse = grid_tokens(2, (2, 2), 8)
    fine = level([[2, 0], [3, 0], [0, 3]], (2, 1), 4, (4, 4))
    found = finest_token_map([coarse, fine])
    assert found.tolist() == [
        [[0, 0, 8, 9], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]],
        [[4, 4, 5, 5], [4, 4, 5, 5], [6, 6, 7, 7], [10, 6, 7, 7]],
    ]


def test_levels_may_be_empty_or_skipped():
    coarse = grid_tokens(1, (1, 2), 32)
    fine = level([], (0,), 4, (8, 16))
    found = finest_token_map([coarse, fine])
    assert found.shape == (1, 8, 16)
    assert (found[0, :, :8] == 0).all() and (found[0, :, 8:] == 1).all()


def test_bad_levels_are_refused():
    coarse, fine = grid_tokens(1, (1, 2), 32), level([[0, 0]], (1,), 16, (2, 4))
    with pytest.raises(ValueError, match='at least one level'):
        finest_token_map([])
    with pytest.raises(ValueError, match='must cover the canvas: expected 8 tokens, found 1'):
        finest_token_map([fine])
    with pytest.raises(ValueError, match='coarse to fine'):
        finest_token_map([grid_tokens(1, (2, 4), 16), coarse])
    point = TokenSet(coarse.feats, coarse.xy, coarse.offsets, coarse.lengths, 32, (1, 2), 'point')
    with pytest.raises(ValueError, match="one kind, found 'patch' and 'point'"):
        finest_token_map([coarse, point])
    with pytest.raises(ValueError, match="one kind, found 'patch' and 'point'"):
        finest_token_map([point, fine])
    empty = replace(point, feats=coarse.feats[:0], xy=coarse.xy[:0], lengths=(0,))
    with pytest.raises(ValueError, match='points in every image'):
        finest_token_map([empty])


def test_points_stand_for_the_places_nearest_to_them():
    # Three tokens of nominal 8 px on a canvas of 16x24 px; cells are centred at 0.5, 2.5, 4.5.
    xy = torch.tensor([[0, 0], [5, 1], [3, 3]], dtype=torch.int32)
    points = replace(level(xy, (3,), 8, (2, 3)), kind='point')
    coarse = replace(level(xy[1:2], (1,), 16, (1, 2)), kind='point')
    # Three cells are as far from two tokens: the lower row wins.
    assert finest_token_map([points]).tolist() == [[[0, 0, 1], [0, 2, 1]]]
    assert finest_token_map([coarse, points]).tolist() == [[[1, 1, 2], [1, 3, 2]]]
