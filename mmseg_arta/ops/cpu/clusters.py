"""Nearest clusters in C++, as a PyTorch op."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from . import library


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
    nearest = _output(xy, start, num_neighbors)
    library.call(
        'arta_nearest_clusters',
        library.address(xy, torch.int32, (xy.shape[0], 2), 'xy'),
        library.address(start, torch.int64, (start.shape[0],), 'start'),
        start.shape[0] - 1,
        (ctypes.c_int64 * len(lengths))(*lengths),
        len(lengths),
        cluster_size,
        nearest.shape[1],
        nearest.data_ptr(),
        library.threads(),
    )
    return nearest


def _output(xy: Tensor, start: Tensor, num_neighbors: int) -> Tensor:
    width = min(num_neighbors, start.shape[0] - 1)
    return xy.new_empty((xy.shape[0], width), dtype=torch.int64)


@_nearest.register_fake
def _(xy, start, lengths, cluster_size, num_neighbors):
    return _output(xy, start, num_neighbors)


def nearest_clusters(
    xy: Tensor, start: Tensor, lengths: tuple[int, ...], cluster_size: int, num_neighbors: int
) -> Tensor:
    """See :func:`mmseg_arta.ops.nearest_clusters`."""
    return _nearest(xy, start, lengths, cluster_size, num_neighbors)
