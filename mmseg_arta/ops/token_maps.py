"""Which token is the finest at every place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..structures import TokenSet, full_grid
from ..structures.contents import readable, within
from .backend import register_op
from .nearest_tokens import nearest_tokens

register_op('finest_token_map')


def finest_token_map(levels: Sequence[TokenSet]) -> Tensor:
    """For every cell of the finest given grid, the row of the finest token that covers it.

    Points cover no patch: there it is the token of the last level that is nearest to the cell's
    centre. Points of coarser levels are among those of finer ones, so none of them is nearer.

    Args:
        levels: token sets of one kind, coarse to fine; the first one of kind 'patch' covers the
            canvas, and of points the last one has tokens in every image.

    Returns:
        ``(B, rows, columns)`` int64 on the grid of the last level. Row numbers count
        through the levels laid end to end in the given order.

    Raises:
        ValueError: if levels are missing, out of order, or of several kinds.
        IndexError: on the CPU, if a token is not on its level's grid.
    """
    if not levels:
        raise ValueError('finest_token_map needs at least one level, found none')
    if levels[-1].kind == 'point':
        return _nearest_point_map(levels)
    batch = levels[0].batch_size
    base = 0
    cells: Tensor | None = None
    for level in levels:
        if level.kind != 'patch':
            raise ValueError(_KINDS)
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
            finer = cells[:, :, None, :, None].expand(-1, -1, factor_y, -1, factor_x)
            cells = finer.reshape(batch, cells.shape[1] * factor_y, cells.shape[2] * factor_x)
        if readable(level.xy):
            within(0, cols * level.unit - 1, **{'level.xy[:, 0]': level.xy[:, 0]})
            within(0, rows * level.unit - 1, **{'level.xy[:, 1]': level.xy[:, 1]})
        cell = level.xy // level.unit
        place = torch.add(cell[:, 0], cell[:, 1], alpha=cols)
        place = torch.add(place, level.batch_index(), alpha=rows * cols)
        numbers = torch.arange(base, base + len(level), device=place.device)
        cells = cells.flatten().scatter(0, place, numbers).view(batch, rows, cols)
        base += len(level)
    assert cells is not None
    return cells


_KINDS = "finest_token_map needs tokens of one kind, found 'patch' and 'point'"


def _nearest_point_map(levels: Sequence[TokenSet]) -> Tensor:
    last = levels[-1]
    if any(level.kind != 'point' for level in levels):
        raise ValueError(_KINDS)
    if min(last.lengths) == 0:
        raise ValueError('finest_token_map needs points in every image, found an image without')
    rows, cols = last.grid
    images = last.batch_size
    corners = full_grid(images, last.grid, last.patch_size, last.xy.device)
    centers = corners + (last.unit - 1) / 2
    found = nearest_tokens(centers, (rows * cols,) * images, last, 1).rows
    return found.view(images, rows, cols) + sum(len(level) for level in levels[:-1])
