"""Sine positions of tokens on the canvas."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ....structures import FINEST_PATCH, TokenSet, at_least_one
from ...layers import sine_position

#: 'canvas': by the canvas; 'max': by the largest coordinate the level has in the batch.
Normalize = Literal['canvas', 'max']


def check_normalize(normalize: str) -> None:
    """Raises ValueError if ``normalize`` is not one of :data:`Normalize`."""
    if normalize not in ('canvas', 'max'):
        raise ValueError(f"normalize must be 'canvas' or 'max', found {normalize!r}")


def grid_of(canvas: tuple[int, int]) -> tuple[int, int]:
    """``(rows, columns)`` of a canvas ``(height, width)`` in pixels, in units of 4 px."""
    return -(-canvas[0] // FINEST_PATCH), -(-canvas[1] // FINEST_PATCH)


def token_positions(
    level: TokenSet, dim: int, canvas: tuple[int, int], normalize: Normalize
) -> Tensor:
    """Sine embedding of the tokens' centres, ``(T, dim)`` float32.

    'canvas' divides coordinates by the canvas, so that an image's embedding does not depend
    on what else is in the batch; 'max' is the published way.
    """
    centers = level.centers()
    if normalize == 'canvas':
        rows, cols = grid_of(canvas)
        return sine_position(centers, dim, (cols, rows))
    return sine_position(centers, dim, at_least_one(centers).amax(0))
