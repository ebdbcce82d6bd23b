"""Who attends to whom: balanced clusters and each token's nearest ones (AFF 3.1).

The published variant makes clusters as the published code does, rounding and ties included.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..structures import Neighborhood
from .balanced_clusters import balanced_clusters
from .balanced_clusters.reference import anchor_grid, cluster_starts, snake_anchor
from .nearest_clusters import nearest_clusters


def build_neighborhood(
    xy: Tensor,
    batch: Tensor,
    counts: Tensor,
    lengths: tuple[int, ...],
    canvas: tuple[int, int],
    cluster_size: int = 8,
    num_neighbors: int = 6,
) -> Neighborhood:
    """Cluster the tokens of a batch and find every token's nearest clusters.

    Args:
        xy: ``(T, 2)`` int32 coordinates in any order.
        batch: ``(T,)`` int64 image index of every token.
        counts: ``(B,)`` tokens per image on the device.
        lengths: the same on the host.
        canvas: ``(height, width)`` in the unit of the coordinates.
        cluster_size: tokens per cluster.
        num_neighbors: clusters every token attends to.
    """
    order, start = balanced_clusters(xy, batch, counts, canvas, cluster_size)
    return _neighborhood(xy, batch, order, start, lengths, cluster_size, num_neighbors)


def _neighborhood(
    xy: Tensor,
    batch: Tensor,
    order: Tensor,
    start: Tensor,
    lengths: tuple[int, ...],
    cluster_size: int,
    num_neighbors: int,
) -> Neighborhood:
    """Nearest clusters of tokens whose clusters are known."""
    inverse = order.new_empty(order.shape)
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
    zero, last = torch.zeros_like(rows), rows * cols - 1

    col, row = (places / step).floor().to(torch.int64).unbind(1)
    rank = row * cols + torch.where(row % 2 == 0, col, cols - 1 - col)

    def anchor(index: Tensor) -> Tensor:
        anchor_row, anchor_col = snake_anchor(index, rows, cols)
        # The order of these steps decides how they round.
        return torch.stack((anchor_col, anchor_row), 1) * step + step / 2 - 0.5

    # The curve's ends are continued in the direction they have.
    start, end = anchor(zero), anchor(last)
    before, after = anchor(rank - 1), anchor(rank + 1)
    before = torch.where((rank == 0)[:, None], start - (anchor(zero + 1) - start), before)
    after = torch.where((rank == last)[:, None], end + (end - anchor(last - 1)), after)
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
    arrival: Tensor | None = None,
) -> Neighborhood:
    """As :func:`mmseg_arta.ops.build_neighborhood`, with the published key and ties.

    Args:
        arrival: ``(T,)`` int64 tokens in the order in which the published code has them,
            which decides between equal keys; images may be interleaved. None for the published
            call itself: an unstable sort of the rows of ``xy``, equally many of every image
            one after the other. Which of equal keys it puts first is left to PyTorch.
    """
    key = published_sort_key(xy, batch, counts, canvas, cluster_size)
    if arrival is None:
        order = torch.sort(key.view(len(lengths), -1, 1), dim=1).indices.flatten()
        order = order + batch * lengths[0]
    else:
        order = arrival[torch.sort(key[arrival], stable=True).indices]
        order = order[torch.sort(batch[order], stable=True).indices]
    start = cluster_starts(counts, xy.shape[0], cluster_size)
    return _neighborhood(xy, batch, order, start, lengths, cluster_size, num_neighbors)
