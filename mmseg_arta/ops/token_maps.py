"""Which token is the finest at every place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..structures import TokenSet


def finest_token_map(levels: Sequence[TokenSet]) -> Tensor:
    """For every cell of the finest given grid, the row of the finest token that covers it.

    Args:
        levels: token sets of kind 'patch', coarse to fine; the first one covers the canvas.

    Returns:
        ``(B, rows, columns)`` int64 on the grid of the last level. Row numbers count
        through the levels laid end to end in the given order.

    Raises:
        ValueError: if levels are missing, out of order, or of kind 'point'.
    """
    if not levels:
        raise ValueError('finest_token_map needs at least one level, found none')
    batch = levels[0].batch_size
    base = 0
    cells: Tensor | None = None
    for level in levels:
        if level.kind != 'patch':
            raise ValueError(f"finest_token_map needs tokens of kind 'patch', found {level.kind!r}")
        rows, cols = level.grid
        if cells is None:
            if len(level) != batch * rows * cols:
                raise ValueError(
                    f'the coarsest level must cover the canvas: expected {batch * rows * cols} '
                    f'tokens, found {len(level)}'
                )
            cells = level.xy.new_zeros((batch, rows, cols), dtype=torch.int64)
        else:
            factor_y, factor_x = rows // cells.shape[1], cols // cells.shape[2]
            if factor_y < 1 or factor_x < 1:
                raise ValueError('levels must be given coarse to fine')
            cells = cells.repeat_interleave(factor_y, 1).repeat_interleave(factor_x, 2)
        place = (level.batch_index() * rows + level.xy[:, 1] // level.unit) * cols
        place = place + level.xy[:, 0] // level.unit
        numbers = torch.arange(base, base + len(level), device=place.device)
        cells = cells.flatten().scatter(0, place, numbers).view(batch, rows, cols)
        base += len(level)
    assert cells is not None
    return cells
