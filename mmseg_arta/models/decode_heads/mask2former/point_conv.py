"""PointConv: a convolution on irregular tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ....ops import neighborhood_merge
from ....structures import NearestTokens
from ...layers import by_rows

_SETS = 4


class PointConv(nn.Module):
    """Sum over the nearest tokens with weights learned from relative positions (AFF 3.3, 4.1).

    The weights of a neighbour are four numbers, a linear layer of
    ``(dx, dy, distance, sin, cos)`` of token minus neighbour followed by LayerNorm and GELU.

    Args:
        dim: input channels.
        out: output channels.
    """

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.weight_net = nn.Sequential(nn.Linear(5, _SETS), nn.LayerNorm(_SETS), nn.GELU())
        self.norm = nn.LayerNorm(_SETS * dim)
        self.proj = nn.Linear(_SETS * dim, out)

    def forward(self, x: Tensor, centers: Tensor, nearest: NearestTokens) -> Tensor:
        """``x (T, C)`` at ``centers (T, 2)`` to ``(T, out)``; ``nearest`` rows are ``(T, k)``."""

        def convolve(own: Tensor, near: Tensor) -> Tensor:
            delta = own[:, None] - centers[near.clamp(min=0)]
            distance = delta.square().sum(-1, keepdim=True).sqrt()
            unit = delta / distance.clamp(min=1e-6)
            weights = self.weight_net(torch.cat((delta, distance, unit.flip(-1)), -1).to(x.dtype))
            return self.proj(self.norm(neighborhood_merge(x, near, weights).flatten(1)))

        return by_rows(convolve, centers, nearest.rows, width=x.shape[1])
