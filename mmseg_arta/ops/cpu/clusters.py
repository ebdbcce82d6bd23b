"""Balanced and nearest clusters in C++, as PyTorch ops."""

from __future__ import annotations

import torch
from torch import Tensor

from . import library


@torch.library.custom_op(
    'mmseg_arta::balanced_clusters_cpu',
    mutates_args=(),
    device_types='cpu',
    schema='(Tensor xy, Tensor batch, Tensor counts, SymInt height, SymInt width, '
    'int cluster_size) -> (Tensor, Tensor)',
)
def _balanced(xy, batch, counts, height, width, cluster_size):
    xy, batch = xy.to(torch.int32).contiguous(), batch.contiguous()
    counts = counts.to(torch.int64).contiguous()
    order, start = _balanced_outputs(xy, counts, cluster_size)
    library.call(
        'arta_balanced_clusters',
        library.address(xy, torch.int32, (xy.shape[0], 2), 'xy'),
        library.address(batch, torch.int64, (xy.shape[0],), 'batch'),
        xy.shape[0],
        library.address(counts, torch.int64, (counts.shape[0],), 'counts'),
        counts.shape[0],
        height,
        width,
        cluster_size,
        order.data_ptr(),
        start.data_ptr(),
        library.threads(),
    )
    return order, start


def _balanced_outputs(xy: Tensor, counts: Tensor, cluster_size: int) -> tuple[Tensor, Tensor]:
    clusters = xy.shape[0] // cluster_size + counts.shape[0]
    return (
        xy.new_empty((xy.shape[0],), dtype=torch.int64),
        xy.new_empty((clusters + 1,), dtype=torch.int64),
    )


@_balanced.register_fake
def _(xy, batch, counts, height, width, cluster_size):
    return _balanced_outputs(xy, counts, cluster_size)


@torch.library.custom_op(
    'mmseg_arta::nearest_clusters_cpu',
    mutates_args=(),
    device_types='cpu',
    schema='(Tensor xy, Tensor start, SymInt[] lengths, int cluster_size, int num_neighbors) '
    '-> Tensor',
)
def _nearest(xy, start, lengths, cluster_size, num_neighbors):
    xy, start = xy.to(torch.int32).contiguous(), start.contiguous()
    if sum(lengths) != xy.shape[0]:
        raise ValueError(
            f'lengths: expected a sum of {xy.shape[0]}, one for each row of xy, '
            f'found {sum(lengths)}'
        )
    nearest = _nearest_output(xy, start, num_neighbors)
    library.call(
        'arta_nearest_clusters',
        library.address(xy, torch.int32, (xy.shape[0], 2), 'xy'),
        library.address(start, torch.int64, (start.shape[0],), 'start'),
        start.shape[0] - 1,
        library.lengths(lengths),
        len(lengths),
        cluster_size,
        nearest.shape[1],
        nearest.data_ptr(),
        library.threads(),
    )
    return nearest


def _nearest_output(xy: Tensor, start: Tensor, num_neighbors: int) -> Tensor:
    width = min(num_neighbors, start.shape[0] - 1)
    return xy.new_empty((xy.shape[0], width), dtype=torch.int64)


@_nearest.register_fake
def _(xy, start, lengths, cluster_size, num_neighbors):
    return _nearest_output(xy, start, num_neighbors)


def balanced_clusters(
    xy: Tensor, batch: Tensor, counts: Tensor, canvas: tuple[int, int], cluster_size: int
) -> tuple[Tensor, Tensor]:
    """See :func:`mmseg_arta.ops.balanced_clusters`."""
    return _balanced(xy, batch, counts, *canvas, cluster_size)


def nearest_clusters(
    xy: Tensor, start: Tensor, lengths: tuple[int, ...], cluster_size: int, num_neighbors: int
) -> Tensor:
    """See :func:`mmseg_arta.ops.nearest_clusters`."""
    return _nearest(xy, start, lengths, cluster_size, num_neighbors)
