"""ConvNeXt V2 block on a dense grid of tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .basic import DropPath, to_maps, to_rows


class GlobalResponseNorm(nn.Module):
    """Scale every channel by its norm over the grid, relative to the other channels' norms.

    Args:
        dim: channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(dim))
        self.beta = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, N, C)`` to ``(B, N, C)``."""
        # Step by step it takes a CPU a fifth of the time of a norm over rows.
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        total = wide.square().sum(dim=1, keepdim=True)
        norm = total.clamp(min=torch.finfo(total.dtype).tiny).sqrt()
        relative = norm / (norm.mean(dim=2, keepdim=True) + 1e-6)
        return x + self.gamma * (x * relative.to(x.dtype)) + self.beta


class ConvNeXtV2Block(nn.Module):
    """7x7 depth-wise convolution, then a feed-forward network with response normalisation.

    Woo et al., "ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders", 2023.

    Args:
        dim: channels.
        mlp_ratio: hidden over input channels of the feed-forward network.
        drop_path: stochastic depth probability.
    """

    def __init__(self, dim: int, mlp_ratio: float = 4.0, drop_path: float = 0.0) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.response_norm = GlobalResponseNorm(hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """``x (B, N, C)`` in raster order of ``grid`` (rows, columns)."""
        y = to_rows(self.dwconv(to_maps(x, grid)))
        y = self.fc2(self.response_norm(self.act(self.fc1(self.norm(y)))))
        return x + self.drop_path(y)
