"""Position embeddings: sines, and learned ones on grids of any size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    if isinstance(extent, Tensor):
        scale = 2 * math.pi / (extent.to(torch.float32) + 1e-6)
    else:
        # Made on the device: numbers from the host would have to be copied there.
        first, last = (2 * math.pi / (float(side) + 1e-6) for side in extent)
        scale = torch.linspace(first, last, 2, device=xy.device)
    angle = xy.to(torch.float32) * scale
    low = math.log(_TEMPERATURE) * (1 / quarter - 1)
    frequency = torch.logspace(0.0, low, quarter, base=math.e, device=xy.device)
    phase = angle[..., None] * frequency
    return torch.cat((phase.sin(), phase.cos()), -1).flatten(-2)


def resize_positions(positions: Tensor, grid: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Positions ``(1, rows * columns, C)`` of ``grid``, resized bicubically to ``target``."""
    if tuple(grid) == tuple(target):
        return positions
    maps = to_maps(positions, grid)
    return to_rows(F.interpolate(maps, tuple(target), mode='bicubic', align_corners=False))


def fit_positions(
    positions: Tensor, grid: tuple[int, int], source: Sequence[int] | None = None
) -> Tensor:
    """Positions of a checkpoint for another grid, without that of a class token.

    Args:
        positions: ``(1, N, C)``, with or without a class token in front.
        grid: rows and columns wanted.
        source: rows and columns of the checkpoint's grid, see :func:`remember_grid`. Where they
            are not known, a square number of positions is a square grid, as in published models,
            and any other that of ``grid``.

    Raises:
        ValueError: if the number of positions fits none of them.
    """
    count = positions.shape[1]
    squares = [(side, side) for side in (math.isqrt(count), math.isqrt(count - 1))]
    for rows, columns in [*squares, grid] if source is None else [source]:
        if rows * columns in (count, count - 1):
            own = positions[:, -rows * columns :]
            return resize_positions(own, (rows, columns), grid)
    expected = f'{grid[0]}x{grid[1]} or a square grid'
    if source is not None:
        expected = f'{source[0]}x{source[1]}, which the checkpoint says they are'
    raise ValueError(
        f'the checkpoint has {count} positions: expected {expected}, with or without a class token'
    )


def remember_grid(module: nn.Module) -> None:
    """Have a module's ``state_dict`` say the grid of its positions, ``module.grid``.

    It stands in the metadata, beside PyTorch's version numbers, and needs no key of its own.
    """

    def hook(module: Any, state: Any, prefix: str, metadata: dict[str, Any]) -> None:
        metadata['grid'] = list(module.grid)

    module._register_state_dict_hook(hook)
