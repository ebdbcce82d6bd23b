"""Nearest clusters as a PyTorch op, and how the searches that implement it are started."""

from __future__ import annotations

from ctypes import c_int, c_int64, c_void_p

import torch
from torch import Tensor

from ..bucket_search import image_index, nearest_points
from ..custom_op import define
from ..library import cpu, host_lengths
from ..nearest_tokens.kernels import search_on_cuda
from .reference import cluster_centers

_P, _N = c_void_p, c_int64
cpu.declare(
    'nearest_clusters', 1, arta_nearest_clusters=(c_int, _P, _P, _N, _P, _N, _N, _N, _P, _N)
)


def _on_cpu(
    neighbors: Tensor,
    xy: Tensor,
    start: Tensor,
    lengths: list[int],
    cluster_size: int,
    num_neighbors: int,
) -> None:
    xy, at = xy.to(torch.int32), cpu.address
    if sum(lengths) != xy.shape[0]:
        raise ValueError(
            f'lengths: expected a sum of {xy.shape[0]}, one for each row of xy, '
            f'found {sum(lengths)}'
        )
    clusters = start.shape[0] - 1
    cpu.call(
        'arta_nearest_clusters',
        at('xy', xy, torch.int32, xy.shape[0], 2),
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


FORWARD = {'cpu': _on_cpu, 'cuda': _on_cuda, 'reference': _in_pytorch}

forward = define(
    'nearest_clusters',
    'Tensor xy, Tensor start, SymInt[] lengths, int cluster_size, int num_neighbors',
    'Tensor',
    _neighbors,
    FORWARD,
)
