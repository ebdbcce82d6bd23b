"""Starts the C++ kernels of balanced and nearest clusters."""

from __future__ import annotations

import torch
from torch import Tensor

from . import library


def balanced(
    results: tuple[Tensor, Tensor],
    xy: Tensor,
    batch: Tensor,
    counts: Tensor,
    height: int,
    width: int,
    cluster_size: int,
) -> None:
    xy, counts, at = xy.to(torch.int32), counts.to(torch.int64), library.TARGET.address
    total, images = xy.shape[0], counts.shape[0]
    library.call(
        'arta_balanced_clusters',
        at('xy', xy, torch.int32, total, 2),
        *(at('batch', batch, torch.int64, total), total),
        *(at('counts', counts, torch.int64, images), images),
        *(height, width, cluster_size),
        *(tensor.data_ptr() for tensor in results),
        torch.get_num_threads(),
    )


def nearest(
    neighbors: Tensor,
    xy: Tensor,
    start: Tensor,
    lengths: list[int],
    cluster_size: int,
    num_neighbors: int,
) -> None:
    xy, at = xy.to(torch.int32), library.TARGET.address
    if sum(lengths) != xy.shape[0]:
        raise ValueError(
            f'lengths: expected a sum of {xy.shape[0]}, one for each row of xy, '
            f'found {sum(lengths)}'
        )
    clusters = start.shape[0] - 1
    library.call(
        'arta_nearest_clusters',
        at('xy', xy, torch.int32, xy.shape[0], 2),
        *(at('start', start, torch.int64, clusters + 1), clusters),
        *(library.lengths(lengths), len(lengths)),
        *(cluster_size, neighbors.shape[1], neighbors.data_ptr()),
        torch.get_num_threads(),
    )
