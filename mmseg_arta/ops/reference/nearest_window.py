"""Nearest tokens by looking at the cells around a place, in plain PyTorch.

Exact: what a window does not decide is searched in a larger one, and at last among all tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...structures import TokenSet
from . import nearest_tokens as reference

# Cells to either side of a place that are looked at, one after the other.
_REACHES = (1, 3, 7)

# Places times cells of a window at a time.
_PAIRS_PER_CHUNK = 1 << 22


def nearest_tokens(
    places: Tensor, place_lengths: tuple[int, ...], level: TokenSet, k: int
) -> Tensor:
    """Rows ``(P, k)``, see :func:`mmseg_arta.ops.nearest_tokens`."""
    places = places.detach().to(torch.float64)
    centers = level.centers().to(torch.float64)
    nearest = torch.full((places.shape[0], k), -1, dtype=torch.int64, device=places.device)
    # Points lie on the 4 px grid, whatever their patch size.
    unit = level.unit if level.kind == 'patch' else 1
    grid = tuple(side * level.unit // unit for side in level.grid)
    table = _rows_by_cell(level, unit, grid)
    counts = torch.tensor(place_lengths, device=places.device)
    image = torch.arange(len(counts), device=places.device)
    image = image.repeat_interleave(counts, output_size=len(places))

    left = torch.arange(len(places), device=places.device)
    for reach in _REACHES:
        # A window must be cheaper than all tokens.
        if len(left) == 0 or (2 * reach + 1) ** 2 >= max(level.lengths):
            break
        decided = []
        chunk = _PAIRS_PER_CHUNK // (2 * reach + 1) ** 2
        for some in left.split(max(chunk, 1)):
            rows, sure = _search(places[some], image[some], table, centers, unit, reach, k)
            nearest[some] = torch.where(sure[:, None], rows, -1)
            decided.append(sure)
        left = left[~torch.cat(decided)]
    if len(left):
        counts = torch.bincount(image[left], minlength=len(counts)).tolist()
        nearest[left] = reference.nearest_tokens(
            places[left], tuple(counts), centers, level.lengths, k
        )
    return nearest


def _rows_by_cell(level: TokenSet, unit: int, grid: tuple[int, ...]) -> Tensor:
    """``(B, rows, columns)`` int64 row of the token in every cell, -1 where there is none."""
    table = torch.full((level.batch_size, *grid), -1, dtype=torch.int64, device=level.xy.device)
    cell = level.xy.long() // unit
    rows = torch.arange(len(level), device=level.xy.device)
    table[level.batch_index(), cell[:, 1], cell[:, 0]] = rows
    return table


def _search(
    places: Tensor, image: Tensor, table: Tensor, centers: Tensor, unit: int, reach: int, k: int
) -> tuple[Tensor, Tensor]:
    """The nearest in a window ``(P, k)``, and whether no token beyond it can be as near."""
    _, rows, cols = table.shape
    # A token of cell i has its centre at i * unit + first.
    first = (unit - 1) / 2
    middle = ((places - first) / unit).round().long()
    step = torch.arange(-reach, reach + 1, device=places.device)
    dy, dx = torch.meshgrid(step, step, indexing='ij')
    x, y = middle[:, :1] + dx.flatten(), middle[:, 1:] + dy.flatten()
    inside = (x >= 0) & (x < cols) & (y >= 0) & (y < rows)
    cell = (image[:, None] * rows + y.clamp(0, rows - 1)) * cols + x.clamp(0, cols - 1)
    found = table.flatten()[cell].masked_fill_(~inside, -1)
    squared = (centers[found.clamp(min=0)] - places[:, None]).square_().sum(-1)
    squared.masked_fill_(found < 0, torch.inf)

    nearest = []
    for _ in range(k):
        least = squared.amin(1)
        # Of equal distances the lowest row.
        row = found.masked_fill(squared > least[:, None], table.numel()).amin(1)
        nearest.append(row)
        squared.masked_fill_(found == row[:, None], torch.inf)
    # The place is at most half a cell from the window's middle.
    sure = least < ((reach + 0.5) * unit) ** 2
    return torch.stack(nearest, 1), sure
