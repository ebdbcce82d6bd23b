"""Swin block: attention in shifted windows on a dense grid of tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .basic import DropPath, Mlp, layer_scale


class WindowAttention(nn.Module):
    """Multi-head self-attention in square windows with a bias per relative position.

    Grids of any size are padded to whole windows; padding is not attended to, nor are tokens
    that only a cyclic shift brought into the same window.

    Args:
        dim: channels.
        num_heads: heads; must divide ``dim``.
        window: side of a window in tokens.
        shifted: move the windows by half their side.
    """

    relative: Tensor

    def __init__(self, dim: int, num_heads: int, window: int = 7, shifted: bool = False) -> None:
        super().__init__()
        self.num_heads, self.window = num_heads, window
        self.shift = window // 2 if shifted else 0
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj = nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.empty((2 * window - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.bias, std=0.02)
        side = torch.arange(window)
        place = torch.stack(torch.meshgrid(side, side, indexing='ij'), -1).view(-1, 2)
        step = place[:, None] - place + window - 1
        self.register_buffer(
            'relative', step[..., 0] * (2 * window - 1) + step[..., 1], persistent=False
        )

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """``x (B, N, C)`` in raster order of ``grid`` to ``(B, N, C)``."""
        batch, _, dim = x.shape
        x = self._to_windows(x.unflatten(1, grid), grid)
        heads = self.qkv(x).unflatten(3, (3, self.num_heads, -1)).permute(3, 0, 1, 4, 2, 5)
        bias = self.bias[self.relative].permute(2, 0, 1).to(heads.dtype)
        apart = self._apart(grid, x.device)[:, None]
        bias = bias[None].masked_fill(apart, -torch.inf)
        out = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=bias)
        out = self.proj(out.transpose(2, 3).flatten(3))
        return self._to_grid(out, grid).reshape(batch, -1, dim)

    def _shifts(self, grid: tuple[int, int]) -> tuple[int, ...]:
        # A side that fits into one window has nothing to be shifted against.
        return tuple(self.shift if side > self.window else 0 for side in grid)

    def _to_windows(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """``(B, H, W, C)`` to ``(B, windows, window * window, C)``."""
        w = self.window
        x = F.pad(x, (0, 0, 0, -x.shape[2] % w, 0, -x.shape[1] % w))
        x = x.roll([-shift for shift in self._shifts(grid)], (1, 2))
        x = x.unflatten(2, (-1, w)).unflatten(1, (-1, w)).transpose(2, 3)
        return x.flatten(3, 4).flatten(1, 2)

    def _to_grid(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        w = self.window
        rows = -(-grid[0] // w)
        x = x.unflatten(1, (rows, -1)).unflatten(3, (w, w)).transpose(2, 3)
        x = x.flatten(3, 4).flatten(1, 2).roll(self._shifts(grid), (1, 2))
        return x[:, : grid[0], : grid[1]]

    def _apart(self, grid: tuple[int, int], device: torch.device) -> Tensor:
        """``(windows, window * window, window * window)`` bool, pairs that must not attend."""
        regions = []
        for side, shift in zip(grid, self._shifts(grid), strict=True):
            padded = side + -side % self.window
            place = torch.arange(padded, device=device).roll(-shift)
            # Three regions a side: padding, places that the shift wrapped around, all others.
            wrapped = torch.arange(padded, device=device) >= padded - shift
            regions.append(torch.where(place < side, wrapped.long(), 2))
        cells = regions[0][:, None] * 3 + regions[1]
        w = self.window
        cells = cells.unflatten(1, (-1, w)).unflatten(0, (-1, w)).transpose(1, 2)
        cells = cells.reshape(-1, w * w)
        return cells[:, :, None] != cells[:, None]


class SwinBlock(nn.Module):
    """Pre-norm transformer block with :class:`WindowAttention`.

    Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", 2021.

    Args:
        dim: channels.
        num_heads: attention heads.
        mlp_ratio: hidden over input channels of the feed-forward network.
        drop_path: stochastic depth probability.
        layer_scale_init: initial layer scale, 0 for none.
        window, shifted: see :class:`WindowAttention`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        layer_scale_init: float = 0.0,
        window: int = 7,
        shifted: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, num_heads, window, shifted)
        self.scale1 = layer_scale(dim, layer_scale_init)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.scale2 = layer_scale(dim, layer_scale_init)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """``x (B, N, C)`` in raster order of ``grid`` (rows, columns)."""
        x = x + self.drop_path(self.scale1(self.attn(self.norm1(x), grid)))
        return x + self.drop_path(self.scale2(self.mlp(self.norm2(x))))
