"""Balanced clusters in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


def snake_anchor(rank: Tensor, rows: Tensor, cols: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of an anchor from its rank along the snake; all ``(T,)`` int64.

    Ranks -1 and ``rows * cols`` are the curve's ends continued by one step.
    """
    last = rows * cols - 1
    inside = torch.minimum(rank.clamp(min=0), last)
    row = torch.div(inside, cols, rounding_mode='floor')
    col = inside - row * cols
    return row, torch.where(row % 2 == 0, col, cols - 1 - col)


def anchor_grid(
    counts: Tensor, canvas: tuple[int, int], cluster_size: int
) -> tuple[Tensor, Tensor]:
    """Rows and columns of the anchor grid of every image, ``(B,)`` int64.

    One anchor per cluster on average, in cells as square as possible (AFF 3.1).
    """
    height, width = canvas
    clusters = torch.div(
        counts.to(torch.float64) + (cluster_size - 1), cluster_size, rounding_mode='floor'
    ).clamp_(min=1)
    patch_len = torch.sqrt(height * width / clusters)
    rows = torch.round(height / patch_len).clamp_(min=1).to(torch.int64)
    cols = torch.round(width / patch_len).clamp_(min=1).to(torch.int64)
    return rows, cols


def balanced_clusters(
    xy: Tensor, batch: Tensor, counts: Tensor, canvas: tuple[int, int], cluster_size: int
) -> tuple[Tensor, Tensor]:
    """See :func:`mmseg_arta.ops.balanced_clusters`."""
    cell, ratio = sort_keys(xy, batch, counts, canvas, cluster_size)
    # One integer key: image, anchor, ratio. Non-negative floats order like their bits.
    key = (cell << 32) | ratio.view(torch.int32).to(torch.int64)
    order = torch.sort(key, stable=True).indices
    return order, cluster_starts(counts, xy.shape[0], cluster_size)


def sort_keys(
    xy: Tensor, batch: Tensor, counts: Tensor, canvas: tuple[int, int], cluster_size: int
) -> tuple[Tensor, Tensor]:
    """What tokens are sorted by: anchors of all images ``(T,)`` int64, then the ratio of squared
    distances to an anchor's neighbours ``(T,)`` float32, not negative.
    """
    height, width = canvas
    rows_b, cols_b = anchor_grid(counts, canvas, cluster_size)
    rows, cols = rows_b[batch], cols_b[batch]
    x, y = xy[:, 0].to(torch.int64), xy[:, 1].to(torch.int64)

    # The cell of a token, in integers: floor(x / (width / cols)) without rounding.
    col = torch.div(x * cols, width, rounding_mode='floor').clamp_(max=width)
    col = torch.minimum(col, cols - 1)
    row = torch.div(y * rows, height, rounding_mode='floor')
    row = torch.minimum(row, rows - 1)
    rank = row * cols + torch.where(row % 2 == 0, col, cols - 1 - col)

    def squared_distance(anchor_row: Tensor, anchor_col: Tensor) -> Tensor:
        # Anchor i of n sits at ((2 i + 1) size / n - 1) / 2. Everything times
        # 2 * rows * cols is an integer, so mirror-symmetric places tie exactly.
        dx = (2 * cols * x - (2 * anchor_col + 1) * width + cols) * rows
        dy = (2 * rows * y - (2 * anchor_row + 1) * height + rows) * cols
        return (dx * dx + dy * dy).to(torch.float64)

    last = rows * cols - 1
    prev_row, prev_col = snake_anchor(rank - 1, rows, cols)
    next_row, next_col = snake_anchor(rank + 1, rows, cols)
    # The curve's ends are continued in the direction they have; a single anchor
    # is continued along x.
    one_row, one_col = snake_anchor(torch.ones_like(rank), rows, cols)
    alone = last == 0
    step_row = torch.where(alone, 0, one_row)
    step_col = torch.where(alone, 1, one_col)
    first = rank == 0
    prev_row = torch.where(first, -step_row, prev_row)
    prev_col = torch.where(first, -step_col, prev_col)
    end_row, end_col = snake_anchor(last, rows, cols)
    before_row, before_col = snake_anchor(last - 1, rows, cols)
    final = rank == last
    next_row = torch.where(final, torch.where(alone, end_row, 2 * end_row - before_row), next_row)
    next_col = torch.where(
        final, torch.where(alone, end_col + 1, 2 * end_col - before_col), next_col
    )

    eps = 1e-5 * (4 * rows * rows * cols * cols).to(torch.float64)
    ratio = squared_distance(prev_row, prev_col) / (squared_distance(next_row, next_col) + eps)

    cells = rows_b * cols_b
    cell = (torch.cumsum(cells, 0) - cells)[batch] + rank
    return cell, ratio.to(torch.float32)


def cluster_starts(counts: Tensor, total: int, cluster_size: int) -> Tensor:
    """First row of every cluster, ``(total // cluster_size + B + 1,)`` int64."""
    batch_size = counts.shape[0]
    counts = counts.to(torch.int64)
    clusters = torch.div(counts + cluster_size - 1, cluster_size, rounding_mode='floor')
    ends = torch.cumsum(clusters, 0)
    index = torch.arange(total // cluster_size + batch_size + 1, device=counts.device)
    image = torch.searchsorted(ends, index, right=True)
    inside = image.clamp(max=batch_size - 1)
    row = (torch.cumsum(counts, 0) - counts)[inside] + (
        index - (ends - clusters)[inside]
    ) * cluster_size
    return torch.where(image < batch_size, row, total)
