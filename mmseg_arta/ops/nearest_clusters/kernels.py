"""Nearest clusters as a PyTorch op, and how the searches that implement it are started."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_int, c_int64, c_void_p

import torch
from torch import Tensor

from ...structures import MOST_CLUSTER_SIZE
from ...structures.contents import numbers, within
from .. import checks
from ..bucket_search import image_index, nearest_points
from ..custom_op import define
from ..library import cpu, host_lengths
from ..nearest_tokens.kernels import search_on_cuda
from .reference import cluster_centers

_P, _N = c_void_p, c_int64
cpu.declare(
    'nearest_clusters', 2, arta_nearest_clusters=(c_int, _P, _N, _P, _N, _P, _N, _N, _N, _P, _N)
)


def _on_cpu(
    neighbors: Tensor,
    xy: Tensor,
    start: Tensor,
    lengths: list[int],
    cluster_size: int,
    num_neighbors: int,
) -> None:
    (xy,), at = checks.int32(xy=xy), cpu.address
    clusters = start.shape[0] - 1
    cpu.call(
        'arta_nearest_clusters',
        *(at('xy', xy, torch.int32, xy.shape[0], 2), xy.shape[0]),
        *(at('start', start, torch.int64, clusters + 1), clusters),
        *(host_lengths(lengths), len(lengths)),
        *(cluster_size, neighbors.shape[1], neighbors.data_ptr()),
        torch.get_num_threads(),
    )


def _on_cuda(
    neighbors: Tensor,
    xy: Tensor,
    start: Tensor,
    lengths: list[int],
    cluster_size: int,
    num_neighbors: int,
) -> None:
    centers, clusters = cluster_centers(xy, start, tuple(lengths), cluster_size)
    search_on_cuda(neighbors, xy, centers, lengths, clusters, neighbors.shape[1])


def _in_pytorch(
    neighbors: Tensor,
    xy: Tensor,
    start: Tensor,
    lengths: list[int],
    cluster_size: int,
    num_neighbors: int,
) -> None:
    centers, counts = cluster_centers(xy, start, tuple(lengths), cluster_size)
    image = image_index(lengths, xy.device)
    of_clusters = image_index(counts, xy.device)
    places = xy.to(torch.float64)
    neighbors.copy_(nearest_points(centers, of_clusters, places, image, neighbors.shape[1]))


def _neighbors(xy: Tensor, start: Tensor, lengths, cluster_size: int, num_neighbors: int):
    return start.new_empty((xy.shape[0], torch.sym_min(num_neighbors, start.shape[0] - 1)))


def check(
    xy: Tensor, start: Tensor, lengths: Sequence[int], cluster_size: int, num_neighbors: int
) -> None:
    """There are clusters for all rows."""
    checks.size(1, MOST_CLUSTER_SIZE, cluster_size=cluster_size)
    checks.size(1, checks.MOST, num_neighbors=num_neighbors)
    if xy.shape[1] != 2:
        raise ValueError(f'xy must be (T, 2), found {tuple(xy.shape)}')
    checks.lengths(xy.shape[0], 'xy', lengths=lengths)
    clusters = sum(-(-length // cluster_size) for length in lengths)
    if start.shape[0] <= clusters:
        raise ValueError(
            f'start must hold more than the {clusters} clusters of lengths {tuple(lengths)} with '
            f'cluster_size {cluster_size}, found {tuple(start.shape)}'
        )


def contents(
    xy: Tensor, start: Tensor, lengths: Sequence[int], cluster_size: int, num_neighbors: int
) -> None:
    """The clusters of every image are its rows, and none of them is empty."""
    row = first = 0
    for length in lengths:
        count = -(-length // cluster_size)
        own = numbers(start[first : first + count + 1])
        end = row + length
        if count:
            within(row, end, **{f'start[{first}:{first + count + 1}]': start[first:][: count + 1]})
            if own[0] != row or own[-1] != end or not (own[1:] > own[:-1]).all():
                raise ValueError(
                    f'start must rise from {row} to {end} in the {count} clusters from {first} '
                    f'on, found {own.tolist() if count < 20 else [*own[:20].tolist(), "..."]}'
                )
        row, first = end, first + count


FORWARD = {'cpu': _on_cpu, 'cuda': _on_cuda, 'reference': _in_pytorch}

forward = define(
    'nearest_clusters',
    'Tensor xy, Tensor start, SymInt[] lengths, int cluster_size, int num_neighbors',
    'Tensor',
    _neighbors,
    FORWARD,
    takes='i2 l1',
    check=check,
    contents=contents,
)
