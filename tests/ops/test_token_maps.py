from __future__ import annotations

import pytest
import torch

from mmseg_arta.ops import finest_token_map
from mmseg_arta.structures import TokenSet, offsets_from_lengths
from tests.helpers import grid_tokens


def level(xy, lengths, patch_size, grid):
    xy = torch.tensor(xy, dtype=torch.int32).view(-1, 2)
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
    with pytest.raises(ValueError, match="kind 'patch'"):
        finest_token_map([point])
