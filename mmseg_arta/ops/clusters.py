"""Who attends to whom: balanced clusters and each token's nearest ones (AFF 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..structures import Neighborhood
from . import checks
from .backend import chosen_backend
from .cuda import places as cuda
from .reference import clusters as reference
from .registered import places as registered


def balanced_clusters(
    xy: Tensor, batch: Tensor, counts: Tensor, canvas: tuple[int, int], cluster_size: int = 8
) -> tuple[Tensor, Tensor]:
    """Order tokens along space-filling anchors and cut the order into equal clusters.

    An image with ``n`` tokens gets a grid of about ``ceil(n / cluster_size)`` anchors,
    walked row by row with alternating direction. A token belongs to the anchor of
    its cell; tokens of one anchor are sorted by ``d_prev^2 / d_next^2``, the squared
    distances to the previous and the next anchor of the walk. Equal keys keep the
    order in which tokens were given (AFF 3.1, eq. 1).

    Args:
        xy: ``(T, 2)`` integer coordinates, ``0 <= x < width``, ``0 <= y < height``.
        batch: ``(T,)`` int64 image index; images may be interleaved.
        counts: ``(B,)`` tokens per image.
        canvas: ``(height, width)`` in the unit of the coordinates.
        cluster_size: tokens per cluster; the last one of an image may hold fewer.

    Returns:
        ``order (T,)`` int64, token of every row, sorted by image and cluster; and
        ``start (T // cluster_size + B + 1,)`` int64, first row of every cluster,
        clusters beyond the last one being empty.

    Raises:
        ValueError: if ``cluster_size`` is not positive, or shapes or number types are wrong.
        IndexError: if a token's image is none of those counted (C++ back end).
    """
    if cluster_size < 1:
        raise ValueError(f'cluster_size must be at least 1, found {cluster_size}')
    checks.integers(xy=xy, counts=counts)
    checks.int64(batch=batch)
    checks.same_device(xy=xy, batch=batch, counts=counts)
    if tuple(xy.shape) != (batch.shape[0], 2):
        raise ValueError(
            f'xy must be ({batch.shape[0]}, 2) for batch {tuple(batch.shape)}, '
            f'found {tuple(xy.shape)}'
        )
    chosen = chosen_backend('balanced_clusters', xy)
    if chosen == 'reference' and not torch.compiler.is_compiling():
        return reference.balanced_clusters(xy, batch, counts, canvas, cluster_size)
    return registered.balanced_clusters(xy, batch, counts, *canvas, cluster_size, chosen)


def nearest_clusters(
    xy: Tensor,
    start: Tensor,
    lengths: tuple[int, ...],
    cluster_size: int = 8,
    num_neighbors: int = 6,
) -> Tensor:
    """The nearest clusters of every token, by distance to the mean of the members.

    Exact; among equal distances the cluster with the lowest index comes first.

    Args:
        xy: ``(T, 2)`` integer coordinates in cluster order.
        start: ``(K + 1,)`` first row of every cluster, of :func:`balanced_clusters`.
        lengths: tokens per image.
        cluster_size: as in :func:`balanced_clusters`.
        num_neighbors: how many clusters to find.

    Returns:
        ``(T, min(num_neighbors, K))`` int64 cluster indices, nearest first; -1 where an
        image has fewer clusters.

    Raises:
        ValueError: if ``num_neighbors`` is not positive, or shapes or number types are wrong.
    """
    if num_neighbors < 1:
        raise ValueError(f'num_neighbors must be at least 1, found {num_neighbors}')
    checks.integers(xy=xy)
    checks.int64(start=start)
    checks.same_device(xy=xy, start=start)
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise ValueError(f'xy must be (T, 2), found {tuple(xy.shape)}')
    if start.ndim != 1:
        raise ValueError(f'start must be (K + 1,), found {tuple(start.shape)}')
    unsupported = (('cuda', cuda.unsupported(num_neighbors)),)
    chosen = chosen_backend('nearest_clusters', xy, unsupported)
    if chosen == 'reference' and not torch.compiler.is_compiling():
        return reference.nearest_clusters(xy, start, lengths, cluster_size, num_neighbors)
    return registered.nearest_clusters(xy, start, lengths, cluster_size, num_neighbors, chosen)


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
