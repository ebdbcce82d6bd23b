from __future__ import annotations

import pytest
import torch

from mmseg_arta.models import ARTA, TokensToMaps
from mmseg_arta.structures import MixedTokens, TokenMaps, TokenSet, offsets_from_lengths


def level(xy, lengths, patch_size, grid, dim):
    xy = torch.tensor(xy, dtype=torch.int32).view(-1, 2)
    return TokenSet(
        torch.randn(len(xy), dim, requires_grad=True),
        xy,
        offsets_from_lengths(lengths, xy.device),
        lengths,
        patch_size,
        grid,
    )


def example(image_size=(32, 64)):
    # One 32 px row of two tokens; the first has four 16 px tokens, one of these 8 px ones.
    levels = (
        level([[0, 0], [8, 0]], (2,), 32, (1, 2), 6),
        level([[0, 0], [4, 0], [0, 4], [4, 4]], (4,), 16, (2, 4), 5),
        level([[4, 0], [6, 0], [4, 2], [6, 2]], (4,), 8, (4, 8), 3),
    )
    return MixedTokens(levels, image_size, (32, 64))


def test_every_place_takes_the_finest_token():
    neck, tokens = TokensToMaps((6, 5, 3)), example()
    fine, middle, coarse = neck(tokens)
    assert [tuple(m.shape) for m in (fine, middle, coarse)] == [
        (1, 3, 4, 8),
        (1, 5, 2, 4),
        (1, 6, 1, 2),
    ]
    feats = [lv.feats for lv in tokens.levels]
    assert torch.equal(coarse[0, :, 0, 1], feats[0][1])
    assert torch.equal(middle[0, :, 1, 0], feats[1][2])
    torch.testing.assert_close(middle[0, :, 1, 3], neck.lifts['1'][0](feats[0][1]))
    assert torch.equal(fine[0, :, 1, 3], feats[2][3])
    torch.testing.assert_close(fine[0, :, 3, 0], neck.lifts['0'][1](feats[1][2]))
    torch.testing.assert_close(fine[0, :, 3, 7], neck.lifts['0'][0](feats[0][1]))


def test_maps_carry_their_tokens_and_are_cut_to_the_image():
    tokens = example((17, 50))
    maps = TokensToMaps((6, 5, 3))(tokens)
    assert isinstance(maps, TokenMaps) and maps.tokens is tokens
    assert [tuple(m.shape[2:]) for m in maps] == [(3, 7), (2, 4), (1, 2)]


def test_every_parameter_gets_a_gradient_without_fine_tokens_too():
    backbone = ARTA(
        dict(
            dims=(32, 32, 16, 16),
            num_heads=(1, 1, 1, 1),
            allocation_depths=(1, 1, 1),
            refinement_depths=(1, 1, 1, 1),
        ),
        dict(type='ThresholdAllocation', thresholds=(1e9,) * 3),
    )
    neck = TokensToMaps(backbone.out_channels)
    maps = neck(backbone(torch.randn(1, 3, 32, 32)))
    sum(m.sum() for m in maps).backward()
    assert all(p.grad is not None for p in neck.parameters())


def test_wrong_channels_are_named():
    with pytest.raises(ValueError, match=r'in_channels is \(6, 5\), but the backbone gives'):
        TokensToMaps((6, 5))(example())


def test_only_the_maps_asked_for_are_made():
    neck, tokens = TokensToMaps((6, 5, 3), out_indices=(0,)), example()
    (fine,) = neck(tokens)
    assert fine.shape[1] == 3
    fine.sum().backward()
    assert len(list(neck.parameters())) == 4
    assert all(p.grad is not None for p in neck.parameters())
    with pytest.raises(ValueError, match=r'from 0 \(the finest\) to 2, found \[3\]'):
        TokensToMaps((6, 5, 3), out_indices=(3,))


@pytest.mark.parametrize('kind', ['patch', 'point'])
@pytest.mark.parametrize('image_size', [(360, 480), (64, 96), (100, 77), (33, 40), (9, 5)])
def test_cells_hold_what_is_at_their_place_in_the_image(image_size, kind):
    # Tokens that hold the pixel at their centre.
    levels = []
    for size in (32, 16, 8, 4):
        grid = tuple(-(-side // 32) * (32 // size) for side in image_size)
        y, x = torch.meshgrid(*(torch.arange(count) for count in grid), indexing='ij')
        xy = torch.stack((x, y), -1).flatten(0, 1) * (size // 4)
        feats = (xy * 4 + size / 2).double()
        count = (len(feats),)
        offsets = offsets_from_lengths(count, xy.device)
        levels.append(TokenSet(feats, xy.int(), offsets, count, size, grid, kind=kind))
    canvas = tuple(-(-side // 32) * 32 for side in image_size)
    neck = TokensToMaps((2,) * 4, kind=kind).double()
    maps = neck(MixedTokens(levels, image_size, canvas))
    for size, cells in zip((4, 8, 16, 32), maps, strict=True):
        assert tuple(cells.shape[2:]) == tuple(-(-side // size) for side in image_size)
        # The cells share the image; before the centre of the first token is that token.
        y, x = (
            ((torch.arange(count) + 0.5) * (side / count)).clamp(min=size / 2).double()
            for side, count in zip(image_size, cells.shape[2:], strict=True)
        )
        wanted = torch.stack(torch.broadcast_tensors(x, y[:, None]))
        torch.testing.assert_close(cells[0], wanted, atol=1e-4, rtol=0)
