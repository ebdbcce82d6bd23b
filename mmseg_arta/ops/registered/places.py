"""Balanced clusters, nearest clusters and nearest tokens as PyTorch ops."""

from __future__ import annotations

import torch
from torch import Tensor

from ..cpu import clusters as cpu_clusters
from ..cpu import nearest_tokens as cpu_tokens
from ..cuda import places as cuda
from ..reference import clusters as reference
from ..reference.bucket_search import nearest_points
from .define import define


def _clusters(xy: Tensor, batch: Tensor, counts: Tensor, height, width, cluster_size: int):
    clusters = xy.shape[0] // cluster_size + counts.shape[0]
    return tuple(batch.new_empty((length,)) for length in (xy.shape[0], clusters + 1))


def _neighbors(xy: Tensor, start: Tensor, lengths, cluster_size: int, num_neighbors: int):
    return start.new_empty((xy.shape[0], torch.sym_min(num_neighbors, start.shape[0] - 1)))


def _rows(places: Tensor, centers: Tensor, place_lengths, lengths, k: int) -> Tensor:
    return places.new_empty((places.shape[0], k), dtype=torch.int64)


# The reference reads values on the host: in a compiled graph it is one call.


def _balanced(results, xy, batch, counts, height, width, cluster_size) -> None:
    found = reference.balanced_clusters(xy, batch, counts, (height, width), cluster_size)
    for result, tensor in zip(results, found, strict=True):
        result.copy_(tensor)


def _nearest(neighbors, *inputs) -> None:
    neighbors.copy_(reference.nearest_clusters(*inputs))


def _tokens(nearest, places, centers, place_lengths, lengths, k) -> None:
    images = [reference.image_index(tuple(n), places.device) for n in (lengths, place_lengths)]
    nearest.copy_(nearest_points(centers.double(), images[0], places.double(), images[1], k))


balanced_clusters = define(
    'balanced_clusters',
    'Tensor xy, Tensor batch, Tensor counts, SymInt height, SymInt width, int cluster_size',
    '(Tensor, Tensor)',
    _clusters,
    {'cpu': cpu_clusters.balanced, 'cuda': cuda.balanced, 'reference': _balanced},
)
nearest_clusters = define(
    'nearest_clusters',
    'Tensor xy, Tensor start, SymInt[] lengths, int cluster_size, int num_neighbors',
    'Tensor',
    _neighbors,
    {'cpu': cpu_clusters.nearest, 'cuda': cuda.nearest_clusters, 'reference': _nearest},
)
nearest_tokens = define(
    'nearest_tokens',
    'Tensor places, Tensor centers, SymInt[] place_lengths, SymInt[] lengths, int k',
    'Tensor',
    _rows,
    {'cpu': cpu_tokens.nearest, 'cuda': cuda.nearest_tokens, 'reference': _tokens},
)
