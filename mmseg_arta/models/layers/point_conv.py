"""PointConv: a convolution on irregular tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...ops import neighborhood_merge, position_terms
from ...structures import without_autocast

# Weights per neighbour; each gives a weighted sum of its own.
_NUM_WEIGHTS = 4


class PointConv(nn.Module):
    """Weighted sums over neighbouring tokens, joined and projected (AFF 3.3, eq. 4).

    The weights of a neighbour are four numbers, a linear layer of its relative position followed
    by LayerNorm and GELU; in AutoFocusFormer's merging they are multiplied by its importance.

    Args:
        dim: input channels.
        out: output channels.
        expanded_position: learn from distance, sine and cosine of relative positions too
            (AFF 4.2), not from ``(dx, dy)`` alone.
    """

    def __init__(self, dim: int, out: int, expanded_position: bool = True) -> None:
        super().__init__()
        self.expanded_position = expanded_position
        terms = 5 if expanded_position else 2
        self.weight_net = nn.Sequential(
            nn.Linear(terms, _NUM_WEIGHTS), nn.LayerNorm(_NUM_WEIGHTS), nn.GELU()
        )
        self.norm = nn.LayerNorm(_NUM_WEIGHTS * dim)
        self.proj = nn.Linear(_NUM_WEIGHTS * dim, out)

    def forward(
        self, x: Tensor, neighbors: Tensor, relative: Tensor, importance: Tensor | None = None
    ) -> Tensor:
        """Convolve around ``T`` places.

        Args:
            x: ``(N, C)`` features.
            neighbors: ``(T, k)`` int64 rows of ``x``; a negative one is no neighbour.
            relative: ``(T, k, 2)`` relative positions ``(dx, dy)`` of the neighbours.
            importance: ``(N,)`` factors on the weights of every row, None for 1.

        Returns:
            ``(T, out)``.
        """
        # Positions need more digits than half precision has.
        with without_autocast(x):
            kind = self.proj.weight.dtype
            relative = relative.to(torch.promote_types(kind, torch.float32))
            weights = self.weight_net(position_terms(relative, self.expanded_position).to(kind))
            if importance is not None:
                weights = weights * importance[neighbors.clamp(min=0)][..., None]
        return self.proj(self.norm(neighborhood_merge(x, neighbors, weights).flatten(1)))
