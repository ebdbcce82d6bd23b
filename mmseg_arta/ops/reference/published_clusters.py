"""Balanced clusters as the published code makes them, rounding and ties included."""

from __future__ import annotations

import torch
from torch import Tensor

from ...structures import Neighborhood
from .clusters import anchor_grid, cluster_starts, nearest_clusters, snake_anchor


def published_sort_key(
    xy: Tensor, batch: Tensor, counts: Tensor, canvas: tuple[int, int], cluster_size: int
) -> Tensor:
    """``(T,)`` float32 key that the published code sorts an image's tokens by.

    ``cell * (largest ratio in the batch + 1) + ratio`` with ``ratio = d_prev^2 /
    (d_next^2 + 1e-5)``, every step rounded to float32: places whose ratios differ by less
    than the key's precision tie, and which do depends on the other images of the batch.

    Args:
        xy, batch, counts, canvas, cluster_size: as in
            :func:`mmseg_arta.ops.balanced_clusters`.
    """
    height, width = canvas
    rows_b, cols_b = anchor_grid(counts, canvas, cluster_size)
    rows, cols = rows_b[batch], cols_b[batch]
    places = xy.to(torch.float32)
    step = torch.stack((width / cols.double(), height / rows.double()), 1).to(torch.float32)
    last = rows * cols - 1

    cell = (places / step).floor().to(torch.int64)
    col, row = torch.minimum(cell[:, 0], cols - 1), torch.minimum(cell[:, 1], rows - 1)
    rank = row * cols + torch.where(row % 2 == 0, col, cols - 1 - col)

    def anchor(index: Tensor) -> Tensor:
        anchor_row, anchor_col = snake_anchor(index, rows, cols)
        return torch.stack((anchor_col, anchor_row), 1) * step + (step - 1) / 2

    # The curve's ends are continued in the direction they have.
    before, after = anchor(rank - 1), anchor(rank + 1)
    zero = torch.zeros_like(rank)
    before = torch.where((rank == 0)[:, None], 2 * anchor(zero) - anchor(zero + 1), before)
    after = torch.where((rank == last)[:, None], 2 * anchor(last) - anchor(last - 1), after)
    ratio = (places - before).square().sum(1) / ((places - after).square().sum(1) + 1e-5)
    return rank * (ratio.max() + 1) + ratio if len(ratio) else ratio


def published_neighborhood(
    xy: Tensor,
    batch: Tensor,
    counts: Tensor,
    lengths: tuple[int, ...],
    canvas: tuple[int, int],
    cluster_size: int,
    num_neighbors: int,
    arrival: Tensor,
) -> Neighborhood:
    """As :func:`mmseg_arta.ops.build_neighborhood`, with the published key and ties.

    Args:
        arrival: ``(T,)`` int64 tokens in the order in which the published code has them,
            which decides between equal keys; images may be interleaved.
    """
    key = published_sort_key(xy, batch, counts, canvas, cluster_size)
    order = arrival[torch.sort(key[arrival], stable=True).indices]
    order = order[torch.sort(batch[order], stable=True).indices]
    start = cluster_starts(counts, xy.shape[0], cluster_size)
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(order.shape[0], device=order.device)
    clustered = xy.index_select(0, order)
    neighbors = nearest_clusters(clustered, start, lengths, cluster_size, num_neighbors)
    return Neighborhood(
        order,
        inverse,
        start,
        neighbors,
        clustered,
        batch.index_select(0, order),
        lengths,
        cluster_size,
    )
