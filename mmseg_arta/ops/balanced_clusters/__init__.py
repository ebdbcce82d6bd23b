"""Balanced clusters along a space-filling curve (AFF 3.1)."""

from __future__ import annotations

from torch import Tensor

from ...structures import MOST_CLUSTER_SIZE
from .. import checks
from ..backend import chosen_backend, register_op
from . import kernels

register_op('balanced_clusters', kernels.FORWARD)


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
        ValueError: if ``cluster_size`` or the canvas is not positive or too large, or shapes or
            number types are wrong; on the CPU, if the counts are not those of ``batch``.
        IndexError: on the CPU, if a token's image is none of those counted or its place is not
            on the canvas.
    """
    checks.canvas(canvas)
    checks.size(1, MOST_CLUSTER_SIZE, cluster_size=cluster_size)
    checks.integers(xy=xy, counts=counts)
    checks.int64(batch=batch)
    checks.same_device(xy=xy, batch=batch, counts=counts)
    if tuple(xy.shape) != (batch.shape[0], 2):
        raise ValueError(
            f'xy must be ({batch.shape[0]}, 2) for batch {tuple(batch.shape)}, '
            f'found {tuple(xy.shape)}'
        )
    chosen = chosen_backend('balanced_clusters', xy)
    return kernels.forward(xy, batch, counts, *canvas, cluster_size, chosen)
