"""Position embeddings: sines, and learned ones on grids of any size."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .basic import to_maps, to_rows

_TEMPERATURE = 10000.0


def sine_position(xy: Tensor, dim: int, extent: tuple[float, float] | Tensor) -> Tensor:
    """Sine embedding of places, ``(..., dim)``.

    The first half of the channels encodes x, the second half y; within a half all
    sines come before all cosines. A coordinate is divided by its extent and
    multiplied by 2 pi before the frequencies are applied.

    Args:
        xy: ``(..., 2)`` coordinates ``(x, y)``.
        dim: channels, a multiple of 4.
        extent: ``(width, height)`` in the same unit, numbers or a tensor ``(2,)``.

    Raises:
        ValueError: if ``dim`` is not a multiple of 4.
    """
    if dim % 4:
        raise ValueError(f'sine positions need channels that are a multiple of 4, found {dim}')
    quarter = dim // 4
    scale = torch.as_tensor(extent, dtype=torch.float32, device=xy.device)
    angle = xy.to(torch.float32) / (scale + 1e-6) * (2 * math.pi)
    exponent = torch.arange(quarter, dtype=torch.float32, device=xy.device) / quarter
    phase = angle[..., None] / _TEMPERATURE**exponent
    return torch.cat((phase.sin(), phase.cos()), -1).flatten(-2)


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
