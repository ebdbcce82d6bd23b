"""Balanced clusters as a PyTorch op, and how its C++ and CUDA kernels are started."""

from __future__ import annotations

from ctypes import c_int, c_int64, c_void_p

import torch
from torch import Tensor

from ..custom_op import define
from ..library import cpu, cuda, stream
from . import reference

_P, _N = c_void_p, c_int64
cpu.declare(
    'balanced_clusters',
    1,
    arta_balanced_clusters=(c_int, _P, _P, _N, _P, _N, _N, _N, _N, _P, _P, _N),
)
cuda.declare('balanced_clusters', 1, arta_cluster_keys=(c_int, _P, _P, _P, _N, _N, _N, _P, _P))


def _on_cpu(
    results: tuple[Tensor, Tensor],
    xy: Tensor,
    batch: Tensor,
    counts: Tensor,
    height: int,
    width: int,
    cluster_size: int,
) -> None:
    xy, counts, at = xy.to(torch.int32), counts.to(torch.int64), cpu.address
    total, images = xy.shape[0], counts.shape[0]
    cpu.call(
        'arta_balanced_clusters',
        at('xy', xy, torch.int32, total, 2),
        *(at('batch', batch, torch.int64, total), total),
        *(at('counts', counts, torch.int64, images), images),
        *(height, width, cluster_size),
        *(tensor.data_ptr() for tensor in results),
        torch.get_num_threads(),
    )


def _on_cuda(
    results: tuple[Tensor, Tensor],
    xy: Tensor,
    batch: Tensor,
    counts: Tensor,
    height: int,
    width: int,
    cluster_size: int,
) -> None:
    xy, at = xy.to(torch.int32), cuda.address
    rows, cols = reference.anchor_grid(counts, (height, width), cluster_size)
    cells = rows * cols
    anchors = torch.stack((rows, cols, cells.cumsum(0) - cells), 1)
    keys = batch.new_empty(batch.shape)
    total, images = xy.shape[0], counts.shape[0]
    cuda.call(
        'arta_cluster_keys',
        at('xy', xy, torch.int32, total, 2),
        at('batch', batch, torch.int64, total),
        at('anchors', anchors, torch.int64, images, 3),
        *(total, height, width, keys.data_ptr(), stream(xy)),
    )
    order, start = results
    order.copy_(torch.sort(keys, stable=True).indices)
    start.copy_(reference.cluster_starts(counts, total, cluster_size))


def _in_pytorch(
    results: tuple[Tensor, Tensor],
    xy: Tensor,
    batch: Tensor,
    counts: Tensor,
    height: int,
    width: int,
    cluster_size: int,
) -> None:
    found = reference.balanced_clusters(xy, batch, counts, (height, width), cluster_size)
    for result, tensor in zip(results, found, strict=True):
        result.copy_(tensor)


def _results(xy: Tensor, batch: Tensor, counts: Tensor, height, width, cluster_size: int):
    clusters = xy.shape[0] // cluster_size + counts.shape[0]
    return tuple(batch.new_empty((length,)) for length in (xy.shape[0], clusters + 1))


FORWARD = {'cpu': _on_cpu, 'cuda': _on_cuda, 'reference': _in_pytorch}

forward = define(
    'balanced_clusters',
    'Tensor xy, Tensor batch, Tensor counts, SymInt height, SymInt width, int cluster_size',
    '(Tensor, Tensor)',
    _results,
    FORWARD,
)
