"""The nearest clusters of every token (AFF 3.1)."""

from __future__ import annotations

from torch import Tensor

from ...structures import MOST_CLUSTER_SIZE
from .. import checks
from ..backend import chosen_backend, register_op
from ..nearest_tokens.kernels import unsupported_on_cuda
from . import kernels

register_op('nearest_clusters', kernels.FORWARD)


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
        ValueError: if ``num_neighbors`` or ``cluster_size`` is not positive or too large, if
            lengths are not those of ``xy``, or shapes or number types are wrong; on the CPU, if
            the clusters in ``start`` are not the rows of the images.
    """
    checks.wholes(lengths=lengths)
    checks.size(1, checks.MOST, num_neighbors=num_neighbors)
    checks.size(1, MOST_CLUSTER_SIZE, cluster_size=cluster_size)
    checks.integers(xy=xy)
    checks.int64(start=start)
    checks.same_device(xy=xy, start=start)
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise ValueError(f'xy must be (T, 2), found {tuple(xy.shape)}')
    if start.ndim != 1 or start.shape[0] == 0:
        raise ValueError(f'start must be (K + 1,), found {tuple(start.shape)}')
    unsupported = (('cuda', unsupported_on_cuda(num_neighbors)),)
    chosen = chosen_backend('nearest_clusters', xy, unsupported)
    return kernels.forward(xy, start, lengths, cluster_size, num_neighbors, chosen)
