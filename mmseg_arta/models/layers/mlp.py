"""Feed-forward networks of transformer blocks."""

from __future__ import annotations

from torch import Tensor, nn

from .grid_maps import to_maps, to_rows


class Mlp(nn.Module):
    """Linear - GELU - Linear.

    Args:
        dim: input channels.
        hidden: hidden channels.
        out: output channels, ``dim`` by default.
    """

    def __init__(self, dim: int, hidden: int, out: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, out or dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class ConvMlp(nn.Module):
    """Linear - 3x3 depth-wise convolution - GELU - Linear on a raster grid of tokens.

    The published ARTA and DUPS use it in their ViT blocks.

    Args:
        dim: input and output channels.
        hidden: hidden channels.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """``x (B, N, C)`` in raster order of ``grid`` (rows, columns), ``N = rows * columns``."""
        maps = self.dwconv(to_maps(self.fc1(x), grid))
        return self.fc2(self.act(to_rows(maps)))
