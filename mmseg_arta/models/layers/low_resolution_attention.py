"""Self-attention on a map that is pooled to a fixed size."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .grid_maps import to_maps, to_rows

#: Short sides of the pyramid behind keys and values, for queries pooled to 16.
_PYRAMID = (11, 8, 6, 4)
_QUERY_SIDE = 16


def pyramid_sides(pooled_size: int) -> tuple[int, ...]:
    """Short sides of the four maps behind keys and values: 11, 8, 6, 4 for 16; 5, 4, 3, 2 for 7."""
    return tuple(max(round(side * pooled_size / _QUERY_SIDE + 0.001), 1) for side in _PYRAMID)


def pooled_grid(short: int, size: tuple[int, int]) -> tuple[int, int]:
    """``(rows, columns)`` whose short side is ``short`` and whose aspect is that of ``size``."""
    least = min(size)
    rows, cols = (round(side * short / least + 0.001) for side in size)
    return rows, cols


def pool_convs(dim: int) -> nn.ModuleList:
    """The 3x3 depth-wise convolutions on the pyramid, which the blocks of a stage share."""
    return nn.ModuleList(nn.Conv2d(dim, dim, 3, padding=1, groups=dim) for _ in _PYRAMID)


class LowResolutionSelfAttention(nn.Module):
    """Multi-head self-attention in a low-resolution space of fixed size (LRFormer 3.1, eq. 3).

    Queries come from the map pooled to ``pooled_size`` on its short side, keys and values
    from a pyramid of four still smaller ones. The result is resized to the map, bilinearly, so
    the cost of the attention itself does not depend on the map.

    Args:
        dim: channels.
        num_heads: heads; must divide ``dim``.
        pooled_size: short side of the pooled queries in cells; the aspect is kept.
        pool_up: pool queries up where the map is smaller than ``pooled_size``, as the published
            code and weights do; False leaves their pooling out there, as the paper says (4.4;
            the FLOPs of its table 7 are those of pooled-up keys and values).

    Raises:
        ValueError: if the heads do not divide the channels, or the pooled size is not positive.
    """

    def __init__(
        self, dim: int, num_heads: int, pooled_size: int = _QUERY_SIDE, pool_up: bool = True
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f'num_heads must divide the {dim} channels, found {num_heads}')
        if pooled_size < 1:
            raise ValueError(f'pooled_size must be at least 1, found {pooled_size}')
        self.num_heads, self.pooled_size, self.pool_up = num_heads, pooled_size, pool_up
        self.q = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.kv = nn.Linear(dim, dim * 2)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, convs: Iterable[nn.Module] | None = None) -> Tensor:
        """``x (B, C, H, W)``, normalised, to a map of the same size.

        Args:
            x: features.
            convs: one per map of the pyramid, see :func:`pool_convs`; their results are added.
        """
        size = (int(x.shape[2]), int(x.shape[3]))  # tensors while traced
        side = self.pooled_size if self.pool_up else min(self.pooled_size, *size)
        grid = pooled_grid(side, size)
        q = self.q(to_rows(F.adaptive_avg_pool2d(x, grid)))
        maps = [
            F.adaptive_avg_pool2d(x, pooled_grid(side, size))
            for side in pyramid_sides(self.pooled_size)
        ]
        if convs is not None:
            maps = [pooled + conv(pooled) for pooled, conv in zip(maps, convs, strict=True)]
        kv = self.kv(self.norm(torch.cat([to_rows(pooled) for pooled in maps], 1)))
        q = q.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        k, v = kv.unflatten(2, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return F.interpolate(
            to_maps(self.proj(out), grid), size, mode='bilinear', align_corners=False
        )
