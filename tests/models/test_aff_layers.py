"""Grid prior, selection and downsampling of AutoFocusFormer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mmseg_arta.models.backbones.aff_downsampling import (
    AdaptiveDownsample,
    GridDownsample,
    grid_prior,
)
from mmseg_arta.models.layers import ClusterAttention
from mmseg_arta.ops import build_neighborhood, position_terms
from mmseg_arta.structures import TokenSet, batch_index, offsets_from_lengths
from tests.helpers import grid_tokens, some_tokens


def points(xy, lengths, grid, patch_size=8, dim=4):
    xy = torch.as_tensor(xy, dtype=torch.int32)
    unit = patch_size // 4
    return TokenSet(
        torch.randn(len(xy), dim),
        xy,
        offsets_from_lengths(lengths, xy.device),
        lengths,
        patch_size,
        (-(-grid[0] // unit), -(-grid[1] // unit)),
        'point',
    )


def hood_of(tokens, grid, num_neighbors=3):
    return build_neighborhood(
        tokens.xy,
        tokens.batch_index(),
        tokens.offsets.diff(),
        tokens.lengths,
        grid,
        8,
        num_neighbors,
    )


def plain_prior(tokens, norm):
    """The definition, token by token (AFF 3.3.2)."""
    out = []
    image = batch_index(tokens.offsets, len(tokens))
    for place, index in zip(tokens.xy.float(), image, strict=True):
        others = tokens.xy[image == index].float()
        distances = (others - place).norm(p=norm, dim=1)
        distances = distances[distances > 0]
        if not len(distances):
            out.append(False)
            continue
        stride = 1
        while stride < float(distances.min()) - 1e-4:
            stride *= 2
        out.append(bool((place % (2 * stride) == 0).all()))
    return torch.tensor(out)


@pytest.mark.parametrize('norm, name', [(1, 'l1'), (2, 'l2')])
@pytest.mark.parametrize('lengths', [(40, 40), (300, 1), (12, 8), (2, 1)], ids=str)
def test_prior_is_the_definition(lengths, norm, name):
    found = []
    for seed in range(4):
        torch.manual_seed(seed)
        tokens = some_tokens(lengths, (24, 20), 4, kind='point')
        if seed % 2:  # places that are far apart, so that larger strides occur
            wide = torch.div(tokens.xy, 4, rounding_mode='floor') * 4
            rows = torch.cat((tokens.batch_index()[:, None], wide.flip(1)), 1).unique(dim=0)
            counts = tuple((rows[:, 0] == i).sum().item() for i in range(len(lengths)))
            tokens = points(rows[:, 1:].flip(1), counts, (24, 20))
        found.append(grid_prior(tokens, (24, 20), name))
        assert torch.equal(found[-1], plain_prior(tokens, norm))
    assert sum(lengths) < 10 or torch.cat(found).any()


def test_prior_of_a_full_grid_takes_every_second_place():
    tokens = replace(grid_tokens(2, (4, 6), 4), kind='point')
    expected = (tokens.xy % 2 == 0).all(1)
    assert torch.equal(grid_prior(tokens, (4, 6)), expected)
    assert torch.equal(grid_prior(tokens, (4, 6), 'l1'), expected)
    assert not grid_prior(tokens, (4, 6), 'none').any()


def test_norms_of_the_prior_differ():
    # The neighbour is 3.6 away by l2, 5 by l1: strides 4 and 8.
    moved = points([[8, 8], [11, 10]], (2,), (16, 16))
    assert grid_prior(moved, (16, 16), 'l2').tolist() == [True, False]
    assert grid_prior(moved, (16, 16), 'l1').tolist() == [False, False]


def test_selection_takes_the_reserved_then_the_best():
    grid = (8, 8)
    tokens = replace(grid_tokens(2, grid, 4), kind='point')
    importance = torch.rand(128)
    layer = AdaptiveDownsample(4, 4, 2, rate=0.25, alpha=4.0)
    chosen = layer.select(tokens, importance, grid)
    assert len(chosen) == 32 and (chosen.diff() > 0).all()
    reserved = (tokens.xy % 4 == 0).all(1)
    rank = (tokens.xy % 2 == 0).all(1) + 4 * importance
    for image in range(2):
        own = torch.arange(64) + 64 * image
        mine = set(chosen[chosen // 64 == image].tolist())
        kept = set(own[reserved[own]].tolist())
        rest = sorted(set(own.tolist()) - kept, key=lambda row: -float(rank[row]))
        assert mine == kept | set(rest[: 16 - len(kept)])


def test_selection_without_reserved_or_prior_follows_importance():
    grid = (8, 8)
    tokens = replace(grid_tokens(1, grid, 4), kind='point')
    importance = torch.rand(64)
    layer = AdaptiveDownsample(4, 4, 2, 0.25, 4.0, prior='none', reserve=False)
    chosen = layer.select(tokens, importance, grid)
    assert set(chosen.tolist()) == set(importance.topk(16).indices.tolist())
    # Among equals the first.
    assert layer.select(tokens, torch.zeros(64), grid).tolist() == list(range(16))


def test_selection_of_few_tokens_keeps_the_reserved():
    tokens = points([[0, 0]], (1,), (1, 1))
    assert AdaptiveDownsample(4, 4, 4).select(tokens, torch.rand(1), (1, 1)).tolist() == [0]
    layer = AdaptiveDownsample(4, 4, 4, reserve=False)
    assert layer.select(tokens, torch.rand(1), (1, 1)).tolist() == [0]


def test_unimportant_tokens_are_not_merged():
    # With all weight on one token, the merged feature is that token's wherever it is near.
    tokens = replace(grid_tokens(1, (4, 4), 4), kind='point')
    hood = hood_of(tokens, (4, 4), 2)
    merge = AdaptiveDownsample(4, 5, 2).merge_around
    x = hood.to_clusters(tokens.feats)
    importance = torch.zeros(16)
    importance[3] = 1.0
    centers = torch.arange(16)
    changed = x.clone()
    changed[torch.arange(16) != 3] += 1.0
    found = merge(centers, x, importance, hood)
    torch.testing.assert_close(found, merge(centers, changed, importance, hood))
    changed[3] += torch.arange(4)
    assert not torch.allclose(found, merge(centers, changed, importance, hood))


def test_importance_learns_through_the_merging():
    tokens = replace(grid_tokens(2, (8, 8), 4), kind='point')
    hood = hood_of(tokens, (8, 8))
    layer = AdaptiveDownsample(4, 6, 2)
    out = layer(hood.to_clusters(tokens.feats), tokens, hood, (8, 8))
    assert out.kind == 'point' and out.patch_size == 8 and out.grid == (4, 4)
    assert out.lengths == (16, 16) and out.feats.shape == (32, 6)
    out.feats.square().sum().backward()
    assert float(layer.importance.weight.grad.abs().sum()) > 0


@pytest.mark.parametrize('grid', [(4, 6), (5, 3), (1, 1)], ids=str)
def test_grid_downsampling_joins_two_by_two(grid):
    tokens = replace(grid_tokens(2, grid, 4), kind='point')
    hood = hood_of(tokens, grid)
    layer = GridDownsample(4, 7, 2)
    out = layer(hood.to_clusters(tokens.feats), tokens, hood, grid)
    size = (-(-grid[0] // 2), -(-grid[1] // 2))
    assert out.grid == size and out.lengths == (size[0] * size[1],) * 2
    assert out.xy[: size[1]].tolist() == [[2 * x, 0] for x in range(size[1])]
    feats = torch.zeros(2, size[0] * 2, size[1] * 2, 4)
    feats[:, : grid[0], : grid[1]] = tokens.feats.view(2, *grid, 4)
    last = feats[1, -2:, -2:]
    joined = torch.cat((last[0, 0], last[1, 0], last[0, 1], last[1, 1]))
    torch.testing.assert_close(out.feats[-1], layer.proj(layer.norm(joined)))


def attention_by_hand(layer, x, hood, blank):
    """Global attention, token by token."""
    heads = layer.num_heads
    q, kv = layer.q(x).view(len(x), heads, -1), layer.kv(x).view(len(x), heads, 2, -1)
    delta = (hood.xy[None] - hood.xy[:, None]).to(x.dtype)
    terms = position_terms(delta, layer.pos_embed.in_features == 5)
    logits = torch.einsum('qhd,khd->qkh', q, kv[:, :, 0]) / q.shape[2] ** 0.5
    logits = logits + layer.pos_embed(terms)
    if blank:
        last = (q * layer.blank_k.view(heads, -1)).sum(-1) / q.shape[2] ** 0.5
        weights = torch.cat((logits, last[:, None]), 1).softmax(1)
        out = torch.einsum('qkh,khd->qhd', weights[:, :-1], kv[:, :, 1])
        out = out + weights[:, -1, :, None] * layer.blank_v.view(heads, -1)
    else:
        out = torch.einsum('qkh,khd->qhd', logits.softmax(1), kv[:, :, 1])
    return layer.proj(out.flatten(1))


@pytest.mark.parametrize('expanded', [True, False], ids=['five_terms', 'two_terms'])
@pytest.mark.parametrize('blank', [True, False], ids=['blank', 'no_blank'])
def test_attention_with_and_without_its_parts(blank, expanded):
    code = torch.randperm(64)[:20].sort().values
    tokens = points(torch.stack((code % 8, code // 8), 1), (20,), (8, 8))
    hood = hood_of(tokens, (8, 8), 3)
    layer = ClusterAttention(12, 2, None, blank, expanded)
    x = torch.randn(20, 12) * 3
    names = {name for name, _ in layer.named_parameters()}
    assert ('blank_k' in names) == ('blank_v' in names) == blank
    expected = attention_by_hand(layer, x, hood, blank)
    torch.testing.assert_close(layer(x, hood), expected, atol=1e-5, rtol=1e-4)
    layer(x, hood).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_unknown_prior_is_named():
    with pytest.raises(ValueError, match="grid_prior must be 'l2', 'l1' or 'none', found 'l3'"):
        AdaptiveDownsample(4, 4, 2, prior='l3')
