"""Low-resolution self-attention and the block around it, for LRFormer and LRHead."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...option_checks import check_each
from ...structures import host_sizes
from .basic import DropPath, to_maps, to_rows

#: Short sides of the pyramid behind keys and values, for queries pooled to 16.
_PYRAMID = (11, 8, 6, 4)
_QUERY_SIDE = 16
# Queries attend in a table of all of them.
_MOST_SIDE = 1 << 10


#: Short side of pooled queries in cells, the aspect of the map kept; or rows and columns.
PooledSize = int | tuple[int, int]


def pyramid_sides(pooled_size: int) -> tuple[int, ...]:
    """Short sides of the four maps behind keys and values: 11, 8, 6, 4 for 16; 5, 4, 3, 2 for 7."""
    return tuple(max(round(side * pooled_size / _QUERY_SIDE + 0.001), 1) for side in _PYRAMID)


def check_pooled_size(owner: object, pooled_size: PooledSize) -> PooledSize:
    """The size, a list of two as a tuple.

    Raises:
        ValueError: naming the option of ``owner``, if it is neither a positive integer nor a pair.
    """
    sides = check_each(owner, 1, _MOST_SIDE, 2, pooled_size=pooled_size)
    return pooled_size if isinstance(pooled_size, int) else (sides[0], sides[1])


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
        pooled_size: short side of the pooled queries in cells, the aspect of the map being kept
            (published code); or their rows and columns, whatever the aspect, as the paper's
            "fixed 16x16" reads (LRFormer 3.1). Keys and values shrink with them.
        pool_up: pool queries up where the map is smaller than ``pooled_size``, as the published
            code and weights do; False leaves their pooling out there, as the paper says (4.4;
            the FLOPs of its table 7 are those of pooled-up keys and values).

    Raises:
        ValueError: if the heads do not divide the channels, or the pooled size is not positive.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        pooled_size: PooledSize = _QUERY_SIDE,
        pool_up: bool = True,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f'num_heads must divide the {dim} channels, found {num_heads}')
        self.num_heads, self.pool_up = num_heads, pool_up
        self.pooled_size = check_pooled_size(self, pooled_size)
        self.q = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.kv = nn.Linear(dim, dim * 2)
        self.proj = nn.Linear(dim, dim)

    def grids(self, size: tuple[int, int]) -> tuple[tuple[int, int], list[tuple[int, int]]]:
        """``(rows, columns)`` of the queries, and of the pyramid, for a map of ``size``."""
        if isinstance(self.pooled_size, int):
            side = self.pooled_size if self.pool_up else min(self.pooled_size, *size)
            pyramid = [pooled_grid(side, size) for side in pyramid_sides(self.pooled_size)]
            return pooled_grid(side, size), pyramid
        rows, columns = self.pooled_size
        pyramid = list(zip(pyramid_sides(rows), pyramid_sides(columns), strict=True))
        if self.pool_up:
            return self.pooled_size, pyramid
        return (min(rows, size[0]), min(columns, size[1])), pyramid

    def forward(self, x: Tensor, convs: Iterable[nn.Module] | None = None) -> Tensor:
        """``x (B, C, H, W)``, normalised, to a map of the same size.

        Args:
            x: features.
            convs: one per map of the pyramid, see :func:`pool_convs`; their results are added.
        """
        rows, columns = host_sizes(x)[2:]
        size = (rows, columns)
        grid, pyramid = self.grids(size)
        q = self.q(to_rows(F.adaptive_avg_pool2d(x, grid)))
        maps = [F.adaptive_avg_pool2d(x, smaller) for smaller in pyramid]
        if convs is not None:
            maps = [pooled + conv(pooled) for pooled, conv in zip(maps, convs, strict=True)]
        kv = self.kv(self.norm(torch.cat([to_rows(pooled) for pooled in maps], 1)))
        q = q.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        k, v = kv.unflatten(2, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return F.interpolate(
            to_maps(self.proj(out), grid), size, mode='bilinear', align_corners=False
        )


class MapLayerNorm(nn.LayerNorm):
    """Layer normalisation over the channels of a map ``(B, C, H, W)``."""

    def forward(self, input: Tensor) -> Tensor:
        x = input.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class MapLayerScale(nn.Module):
    """Multiply the channels of a map ``(B, C, H, W)`` by a learned vector that starts at ``init``.

    Args:
        dim: channels.
        init: initial value.
    """

    def __init__(self, dim: int, init: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma[:, None, None]


class ResidualConvMlp(nn.Module):
    """1x1 convolution - GELU - 3x3 depth-wise convolution with a short connection - 1x1.

    Args:
        dim: input and output channels.
        hidden: hidden channels.
        with_conv: False leaves the depth-wise convolution out (LRFormer table 9).
    """

    def __init__(self, dim: int, hidden: int, with_conv: bool = True) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.act = nn.GELU()
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden) if with_conv else None
        self.fc2 = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.dwconv is None:
            return self.fc2(self.act(self.fc1(x)))
        x = self.act(self.fc1(x))
        return self.fc2(x + self.dwconv(x))


def map_layer_norm(dim: int) -> nn.Module:
    """Layer normalisation as in the published backbone."""
    return MapLayerNorm(dim, eps=1e-6)


class LowResolutionBlock(nn.Module):
    """Depth-wise convolution, low-resolution self-attention, feed-forward network, each with a
    short connection (LRFormer 3.2, eq. 4).

    Args:
        dim: channels.
        num_heads: attention heads.
        mlp_ratio: hidden over input channels of the feed-forward network.
        pooled_size, pool_up: see :class:`LowResolutionSelfAttention`.
        drop_path: stochastic depth probability.
        layer_scale_init: initial layer scale, 0 for none.
        norm: makes the norm before attention and the one before the feed-forward network.
        pre_norm: batch normalisation of the block's input.
        position_conv: 3x3 depth-wise convolution before the attention.
        mlp_conv: 3x3 depth-wise convolution in the feed-forward network.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        pooled_size: PooledSize = _QUERY_SIDE,
        drop_path: float = 0.0,
        layer_scale_init: float = 0.0,
        norm: Callable[[int], nn.Module] = map_layer_norm,
        pre_norm: bool = False,
        position_conv: bool = True,
        mlp_conv: bool = True,
        pool_up: bool = True,
    ) -> None:
        super().__init__()

        def scale() -> nn.Module:
            return MapLayerScale(dim, layer_scale_init) if layer_scale_init else nn.Identity()

        self.pre_norm = nn.BatchNorm2d(dim) if pre_norm else nn.Identity()
        self.cpe = nn.Conv2d(dim, dim, 3, padding=1, groups=dim) if position_conv else None
        self.norm1 = norm(dim)
        self.attn = LowResolutionSelfAttention(dim, num_heads, pooled_size, pool_up)
        self.scale1 = scale()
        self.norm2 = norm(dim)
        self.mlp = ResidualConvMlp(dim, int(dim * mlp_ratio), mlp_conv)
        self.scale2 = scale()
        self.drop_path = DropPath(drop_path)

    def forward(
        self, x: Tensor, convs: Iterable[nn.Module] | None = None, with_cp: bool = False
    ) -> Tensor:
        """Mix the cells of a map.

        Args:
            x: ``(B, C, H, W)``.
            convs: as in :class:`LowResolutionSelfAttention`.
            with_cp: recompute the block in the backward pass to save memory.
        """
        # Not recomputed: batch normalisation would count the batch twice.
        x = self.pre_norm(x)
        if with_cp and x.requires_grad:
            return checkpoint(self._mix, x, convs, use_reentrant=False)
        return self._mix(x, convs)

    def _mix(self, x: Tensor, convs: Iterable[nn.Module] | None) -> Tensor:
        if self.cpe is not None:
            x = x + self.cpe(x)
        x = x + self.drop_path(self.scale1(self.attn(self.norm1(x), convs)))
        return x + self.drop_path(self.scale2(self.mlp(self.norm2(x))))


def init_low_resolution_layers(module: nn.Module) -> None:
    """Initialise linear layers (truncated normal of std 0.02) and convolutions (Kaiming normal,
    fan out, per group) below ``module``.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
        elif isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode='fan_out')
            layer.weight.data.mul_(layer.groups**0.5)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
