"""From the tokens of one stage to fewer tokens of the next (AFF 3.3)."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops import neighborhood_merge
from ...structures import FINEST_PATCH, Neighborhood, TokenSet, full_grid, offsets_from_lengths
from .grid_prior import GridPrior, check_grid_prior, grid_prior, on_grid
from .position_terms import position_terms
from .row_blocks import by_rows

_SETS = 4


class NeighborhoodMerging(nn.Module):
    """Merge the neighbourhoods of some tokens, weighted by importance (AFF eq. 4).

    A PointConv whose weights, four numbers a neighbour, are a linear layer of the relative
    position followed by LayerNorm and GELU, times the neighbour's importance.

    Args:
        dim: input channels.
        out: output channels.
        expanded_position: see :func:`~mmseg_arta.models.layers.position_terms.position_terms`.
    """

    def __init__(self, dim: int, out: int, expanded_position: bool = True) -> None:
        super().__init__()
        self.expanded_position = expanded_position
        terms = 5 if expanded_position else 2
        self.weight_net = nn.Sequential(nn.Linear(terms, _SETS), nn.LayerNorm(_SETS), nn.GELU())
        self.norm = nn.LayerNorm(_SETS * dim)
        self.proj = nn.Linear(_SETS * dim, out)

    def forward(
        self, x: Tensor, importance: Tensor, neighborhood: Neighborhood, centers: Tensor
    ) -> Tensor:
        """Args:
            x: ``(T, C)`` features in cluster order.
            importance: ``(T,)`` importance scores in cluster order.
            neighborhood: of these tokens.
            centers: ``(K,)`` int64 rows, in cluster order, to merge around.

        Returns:
            ``(K, out)``.
        """
        rows, valid = neighborhood.members

        def merge(centers: Tensor) -> Tensor:
            near = neighborhood.neighbors.index_select(0, centers)
            exists = valid[near.clamp(min=0)] & (near >= 0)[..., None]
            index = rows[near.clamp(min=0)].masked_fill(~exists, -1).flatten(1)
            kept = index.clamp(min=0)
            delta = neighborhood.xy[kept] - neighborhood.xy[centers][:, None]
            # Places need more digits than half precision has.
            with torch.autocast(x.device.type, enabled=False):
                terms = position_terms(delta.to(self.proj.weight.dtype), self.expanded_position)
                weights = self.weight_net(terms) * importance[kept][..., None]
            merged = neighborhood_merge(x, index, weights)
            return self.proj(self.norm(merged.flatten(1)))

        return by_rows(merge, centers, width=x.shape[1])


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
        prior: see :func:`~mmseg_arta.models.layers.grid_prior.grid_prior`.
        reserve: keep the reserved tokens.
        expanded_position: see :class:`NeighborhoodMerging`.

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
        check_grid_prior(prior)
        self.stride, self.rate, self.alpha = stride, rate, alpha
        self.prior, self.reserve = prior, reserve
        self.importance = nn.Linear(dim, 1)
        self.merge = NeighborhoodMerging(dim, out, expanded_position)

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
        with torch.autocast(x.device.type, enabled=False):
            importance = self.importance(x.to(self.importance.weight.dtype)).squeeze(1).sigmoid()
        chosen = self.select(tokens, neighborhood.to_tokens(importance.detach()), grid)
        feats = self.merge(x, importance, neighborhood, neighborhood.inverse[chosen])
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
            rank = rank.masked_fill(on_grid(tokens.xy, step), torch.inf)
        # Among equals the first in raster order.
        order = rank.view(images, count).sort(dim=1, descending=True, stable=True).indices
        first = torch.arange(images, device=order.device)[:, None] * count
        return (order[:, :keep].sort(1).values + first).flatten()


class GridDownsample(nn.Module):
    """Downsampling of regular grids: 2x2 tokens joined, LayerNorm, linear layer (Swin).

    What adaptive downsampling is compared with (AFF table 5).

    Args:
        dim: input channels.
        out: output channels.
        stride: stride of the tokens that come out, in units of 4 px.
    """

    def __init__(self, dim: int, out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.norm = nn.LayerNorm(4 * dim)
        self.proj = nn.Linear(4 * dim, out, bias=False)

    def forward(
        self, x: Tensor, tokens: TokenSet, neighborhood: Neighborhood, grid: tuple[int, int]
    ) -> TokenSet:
        """See :meth:`AdaptiveDownsample.forward`; ``tokens`` are all of a regular grid."""
        rows, cols = tokens.grid
        maps = neighborhood.to_tokens(x).view(tokens.batch_size, rows, cols, -1)
        maps = F.pad(maps, (0, 0, 0, cols % 2, 0, rows % 2))
        joined = torch.cat([maps[:, dy::2, dx::2] for dx in (0, 1) for dy in (0, 1)], -1)
        size = (joined.shape[1], joined.shape[2])
        feats = self.proj(self.norm(joined.flatten(0, 2)))
        xy = full_grid(tokens.batch_size, size, self.stride * FINEST_PATCH, x.device)
        return _next_tokens(tokens, feats, xy, self.stride, grid)


def _next_tokens(
    tokens: TokenSet, feats: Tensor, xy: Tensor, stride: int, grid: tuple[int, int]
) -> TokenSet:
    images = tokens.batch_size
    lengths = (len(feats) // images,) * images
    return replace(
        tokens,
        feats=feats,
        xy=xy,
        offsets=offsets_from_lengths(lengths, xy.device),
        lengths=lengths,
        patch_size=stride * FINEST_PATCH,
        grid=(-(-grid[0] // stride), -(-grid[1] // stride)),
    )
