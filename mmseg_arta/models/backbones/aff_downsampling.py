"""From the tokens of one AutoFocusFormer stage to fewer tokens of the next (AFF 3.3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops import nearest_tokens
from ...structures import (
    FINEST_PATCH,
    Neighborhood,
    TokenSet,
    full_grid,
    host_sizes,
    offsets_from_lengths,
    without_autocast,
)
from ..layers import PointConv, wide_linear

#: 'l2' as in the published code, 'l1' as in the paper, 'none' for no prior.
GridPrior = Literal['l2', 'l1', 'none']

# Larger than any distance between tokens; sums of two do not overflow.
_FAR = 1 << 30


class AdaptiveDownsample(nn.Module):
    """Keep the most important tokens and merge their neighbourhoods (AFF 3.3).

    A token's rank is its grid prior plus ``alpha`` times its importance, the sigmoid of a linear
    layer; importance learns through the merging alone. Reserved tokens, those on a grid of twice
    the nominal stride of the tokens that come out, are kept whatever their rank. Every image
    keeps equally many.

    Args:
        dim: input channels.
        out: output channels.
        stride: nominal stride of the tokens that come out, in units of 4 px.
        rate: share of tokens to keep.
        alpha: weight of the importance against the grid prior.
        prior: see :func:`grid_prior`.
        reserve: keep the reserved tokens.
        expanded_position: see :class:`~mmseg_arta.models.layers.PointConv`.

    Raises:
        ValueError: for an unknown prior.
    """

    def __init__(
        self,
        dim: int,
        out: int,
        stride: int,
        rate: float = 0.25,
        alpha: float = 4.0,
        prior: GridPrior = 'l2',
        reserve: bool = True,
        expanded_position: bool = True,
    ) -> None:
        super().__init__()
        _check_grid_prior(prior)
        self.stride, self.rate, self.alpha = stride, rate, alpha
        self.prior, self.reserve = prior, reserve
        self.importance = nn.Linear(dim, 1)
        self.merge = PointConv(dim, out, expanded_position)

    def forward(
        self, x: Tensor, tokens: TokenSet, neighborhood: Neighborhood, grid: tuple[int, int]
    ) -> TokenSet:
        """Tokens of the next stage.

        Args:
            x: ``(T, C)`` features in cluster order.
            tokens: where the tokens are, in raster order.
            neighborhood: of these tokens.
            grid: ``(rows, columns)`` of the canvas in units of 4 px.
        """
        with without_autocast(x):
            importance = wide_linear(self.importance, x).squeeze(1).sigmoid()
        chosen = self.select(tokens, neighborhood.to_tokens(importance.detach()), grid)
        feats = self.merge_around(neighborhood.inverse[chosen], x, importance, neighborhood)
        return _next_tokens(tokens, feats, tokens.xy[chosen], self.stride, grid)

    def select(self, tokens: TokenSet, importance: Tensor, grid: tuple[int, int]) -> Tensor:
        """Which tokens to merge around: ``(K,)`` int64 rows of ``tokens``, ascending.

        Args:
            tokens: in raster order, equally many in every image.
            importance: ``(T,)`` scores in [0, 1], in the same order.
            grid: ``(rows, columns)`` of the canvas in units of 4 px.
        """
        count, images = tokens.lengths[0], tokens.batch_size
        keep = max(int(count * self.rate), 1)
        rank = grid_prior(tokens, grid, self.prior) + self.alpha * importance
        if self.reserve:
            step = 2 * self.stride
            keep = max(keep, -(-grid[0] // step) * -(-grid[1] // step))
            rank = rank.masked_fill(_on_grid(tokens.xy, step), torch.inf)
        # Among equals the first in raster order.
        order = rank.view(images, count).sort(dim=1, descending=True, stable=True).indices
        first = torch.arange(images, device=order.device)[:, None] * count
        return (order[:, :keep].sort(1).values + first).flatten()

    def merge_around(
        self, centers: Tensor, x: Tensor, importance: Tensor, neighborhood: Neighborhood
    ) -> Tensor:
        """Merge the neighbourhoods of some tokens, weighted by importance (AFF eq. 4).

        Args:
            centers: ``(K,)`` int64 rows, in cluster order, to merge around.
            x: ``(T, C)`` features in cluster order.
            importance: ``(T,)`` scores in cluster order.
            neighborhood: of these tokens.

        Returns:
            ``(K, out)``.
        """
        rows, valid = neighborhood.members
        clusters = neighborhood.neighbors.index_select(0, centers)
        exists = valid[clusters.clamp(min=0)] & (clusters >= 0)[..., None]
        neighbors = rows[clusters.clamp(min=0)].masked_fill(~exists, -1).flatten(1)
        xy = neighborhood.xy
        relative = xy[neighbors.clamp(min=0)] - xy[centers][:, None]
        return self.merge(x, neighbors, relative, importance)


class PatchMerging(nn.Module):
    """Joins 2x2 tokens of a regular grid, LayerNorm, linear layer (Swin).

    Args:
        dim: input channels.
        out: output channels.
    """

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.proj = nn.Linear(4 * dim, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, H, W, C)`` to ``(B, ceil(H / 2), ceil(W / 2), out)``."""
        return self.proj(self.norm(_joined(x)))


def _joined(x: Tensor) -> Tensor:
    """2x2 cells side by side: ``(B, H, W, C)`` to ``(B, ceil(H / 2), ceil(W / 2), 4 C)``."""
    x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
    return torch.cat([x[:, dy::2, dx::2] for dx in (0, 1) for dy in (0, 1)], -1)


class GridDownsample(nn.Module):
    """Downsampling of regular grids, what adaptive downsampling is compared with (AFF table 5).

    Args:
        dim: input channels.
        out: output channels.
        stride: stride of the tokens that come out, in units of 4 px.
    """

    def __init__(self, dim: int, out: int, stride: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.proj = nn.Linear(4 * dim, out, bias=False)
        self.stride = stride

    def forward(
        self, x: Tensor, tokens: TokenSet, neighborhood: Neighborhood, grid: tuple[int, int]
    ) -> TokenSet:
        """See :meth:`AdaptiveDownsample.forward`; ``tokens`` are all of a regular grid."""
        maps = neighborhood.to_tokens(x).view(tokens.batch_size, *tokens.grid, -1)
        feats = self.proj(self.norm(_joined(maps)))
        rows, columns = host_sizes(feats)[1:3]
        xy = full_grid(tokens.batch_size, (rows, columns), self.stride * FINEST_PATCH, x.device)
        return _next_tokens(tokens, feats.flatten(0, 2), xy, self.stride, grid)


def _next_tokens(
    tokens: TokenSet, feats: Tensor, xy: Tensor, stride: int, grid: tuple[int, int]
) -> TokenSet:
    images = tokens.batch_size
    lengths = (host_sizes(feats)[0] // images,) * images
    return replace(
        tokens,
        feats=feats,
        xy=xy,
        offsets=offsets_from_lengths(lengths, xy.device),
        lengths=lengths,
        patch_size=stride * FINEST_PATCH,
        grid=(-(-grid[0] // stride), -(-grid[1] // stride)),
    )


def grid_prior(tokens: TokenSet, grid: tuple[int, int], distance: GridPrior = 'l2') -> Tensor:
    """Adaptive grid prior: 1 for tokens on a grid of twice the local stride, else 0.

    A token's stride is the distance to its nearest neighbour, rounded up to a power of two.

    Args:
        tokens: points on the 4 px grid.
        grid: ``(rows, columns)`` of the canvas in units of 4 px.
        distance: how the distance to the neighbour is measured; 'none' gives zeros.

    Returns:
        ``(T,)`` bool.

    Raises:
        ValueError: for an unknown distance.
    """
    _check_grid_prior(distance)
    if distance == 'none':
        return torch.zeros(len(tokens), dtype=torch.bool, device=tokens.xy.device)
    l1 = distance == 'l1'
    squared = _nearest_l1(tokens, grid) ** 2 if l1 else _nearest_l2_squared(tokens)
    # Smallest e with 2^e >= distance, in integers; a lone token has no stride.
    powers = 4 ** torch.arange(28, device=squared.device)
    double = 2 << torch.searchsorted(powers, squared)
    return _on_grid(tokens.xy, double[:, None]) & (squared < _FAR)


def _check_grid_prior(distance: str) -> None:
    """Raises ValueError if ``distance`` is not one of :data:`GridPrior`."""
    if distance not in ('l2', 'l1', 'none'):
        raise ValueError(f"grid_prior must be 'l2', 'l1' or 'none', found {distance!r}")


def _on_grid(xy: Tensor, stride: int | Tensor) -> Tensor:
    """``(T,)`` bool, which places ``xy (T, 2)`` have both coordinates divisible by ``stride``."""
    return (xy.long() % stride == 0).all(1)


def _nearest_l2_squared(tokens: TokenSet) -> Tensor:
    """Squared Euclidean distance to the nearest other token of the image, ``(T,)`` int64."""
    xy = tokens.xy.long()
    # The nearest one is the token itself.
    other = nearest_tokens(tokens.xy, tokens.lengths, tokens, 2).rows[:, 1]
    squared = (xy[other.clamp(min=0)] - xy).square().sum(1)
    return squared.masked_fill(other < 0, _FAR)


def _nearest_l1(tokens: TokenSet, grid: tuple[int, int]) -> Tensor:
    """Manhattan distance to the nearest other token of the image, ``(T,)`` int64.

    In time proportional to the cells: first along rows, then along columns.
    """
    rows, cols = grid
    batch, (x, y) = tokens.batch_index(), tokens.xy.long().unbind(1)
    present = torch.zeros((tokens.batch_size, rows, cols), dtype=torch.bool, device=x.device)
    present[batch, y, x] = True
    column = torch.arange(cols, device=x.device).expand_as(present)
    row = torch.arange(rows, device=x.device)[:, None]

    def gap(left: Tensor, right: Tensor) -> Tensor:
        return torch.minimum(column - left, right - column)

    # Columns of the nearest tokens to the left and right in a row: at a cell, and beside it.
    left = torch.where(present, column, -_FAR).cummax(2).values
    right = torch.where(present, column, _FAR).flip(2).cummin(2).values.flip(2)
    along = gap(left, right)
    beside = gap(
        F.pad(left, (1, 0), value=-_FAR)[..., :-1], F.pad(right, (0, 1), value=_FAR)[..., 1:]
    )
    above = (along - row).cummin(1).values
    below = (along + row).flip(1).cummin(1).values.flip(1)
    above = F.pad(above, (0, 0, 1, 0), value=_FAR)[:, :-1] + row
    below = F.pad(below, (0, 0, 0, 1), value=_FAR)[:, 1:] - row
    nearest = torch.minimum(beside, torch.minimum(above, below))
    return nearest[batch, y, x].clamp(max=1 << 15)
