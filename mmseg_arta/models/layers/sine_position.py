"""Sine position embeddings."""

from __future__ import annotations

import math

import torch
from torch import Tensor

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
