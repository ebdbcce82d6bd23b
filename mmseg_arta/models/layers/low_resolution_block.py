"""Basic block of LRFormer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .drop_path import DropPath
from .low_resolution_attention import LowResolutionSelfAttention
from .row_blocks import cells_at_once


class MapLayerNorm(nn.LayerNorm):
    """Layer normalisation over the channels of a map ``(B, C, H, W)``."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
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
        cells = cells_at_once(x)
        if cells is not None:
            return self._in_bands(x, max(cells // (x.shape[0] * x.shape[3]), 4))
        x = self.act(self.fc1(x))
        return self.fc2(self.dwconv(x).add_(x))

    def _in_bands(self, x: Tensor, step: int) -> Tensor:
        """The same for ``step`` rows of the map at a time; every cell is computed once."""
        conv, height = self.dwconv, x.shape[2]
        hidden: Tensor | None = None
        found = []
        for begin in range(0, height, step):
            new = _channels_last(self.act(self.fc1(x[:, :, begin : begin + step])))
            # The convolution reaches one row down: the last two are still needed.
            hidden = new if hidden is None else torch.cat((hidden[:, -2:], new), 1)
            if begin == 0 or begin + step >= height:
                padding = (int(begin == 0), int(begin + step >= height))
                hidden = F.pad(hidden, (0, 0, 0, 0, *padding))
            maps = hidden.permute(0, 3, 1, 2)
            mixed = F.conv2d(maps, conv.weight, conv.bias, padding=(0, 1), groups=conv.groups)
            found.append(_channels_last(self.fc2(mixed.add_(maps[:, :, 1:-1]))))
        return torch.cat(found, 1).permute(0, 3, 1, 2)


def _channels_last(maps: Tensor) -> Tensor:
    return maps.permute(0, 2, 3, 1)


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
        pooled_size: int = 16,
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

    def forward(self, x: Tensor, convs: Iterable[nn.Module] | None = None) -> Tensor:
        """``x (B, C, H, W)``; ``convs`` as in :class:`LowResolutionSelfAttention`."""
        x = self.pre_norm(x)
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
