"""Learned position embeddings on grids of any size."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from .grid_maps import to_maps, to_rows


def resize_positions(positions: Tensor, grid: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Positions ``(1, rows * columns, C)`` of ``grid``, resized bicubically to ``target``."""
    if tuple(grid) == tuple(target):
        return positions
    maps = to_maps(positions, grid)
    return to_rows(F.interpolate(maps, tuple(target), mode='bicubic', align_corners=False))


def fit_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Positions of a checkpoint for another grid, without that of a class token.

    Args:
        positions: ``(1, N, C)`` of a square grid, with or without a class token in front, or of
            ``grid`` itself.
        grid: rows and columns wanted.

    Raises:
        ValueError: if the checkpoint's grid is neither ``grid`` nor square.
    """
    count = positions.shape[1]
    if count in (grid[0] * grid[1], grid[0] * grid[1] + 1):
        return positions[:, -grid[0] * grid[1] :]
    for tokens in (count, count - 1):
        side = math.isqrt(tokens)
        if side * side == tokens:
            return resize_positions(positions[:, -tokens:], (side, side), grid)
    raise ValueError(
        f'pos_embed in the checkpoint has {count} positions: expected {grid[0]}x{grid[1]} or a '
        'square grid, with or without a class token'
    )
