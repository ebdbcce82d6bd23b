"""Balanced clusters as a PyTorch op, and how its C++ and CUDA kernels are started."""

from __future__ import annotations

import math
from ctypes import c_int, c_int64, c_void_p

import torch
from torch import Tensor

from ...structures import MOST_CLUSTER_SIZE
from ...structures.contents import numbers, within
from .. import checks
from ..custom_op import define
from ..library import cpu, cuda, stream
from . import reference

_P, _N = c_void_p, c_int64
cpu.declare(
    'balanced_clusters',
    2,
    arta_balanced_clusters=(c_int, _P, _P, _N, _P, _N, _N, _N, _N, _P, _P, _N),
)
cuda.declare('balanced_clusters', 2, arta_cluster_keys=(c_int, _P, _P, _P, _N, _N, _N, _N, _P, _P))


def _on_cpu(
    results: tuple[Tensor, Tensor],
    xy: Tensor,
    batch: Tensor,
    counts: Tensor,
    height: int,
    width: int,
    cluster_size: int,
) -> None:
    (xy,), counts, at = checks.int32(xy=xy), counts.to(torch.int64), cpu.address
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
    (xy,), at = checks.int32(xy=xy), cuda.address
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
        *(total, images, height, width, keys.data_ptr(), stream(xy)),
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


def check(
    xy: Tensor, batch: Tensor, counts: Tensor, height: int, width: int, cluster_size: int
) -> None:
    """Sizes are those of tokens on a canvas whose keys are numbers of 64 bits."""
    checks.size(1, MOST_CLUSTER_SIZE, cluster_size=cluster_size)
    checks.size(1, checks.MOST >> 1, height=height, width=width)
    total, images = batch.shape[0], counts.shape[0]
    if tuple(xy.shape) != (total, 2):
        raise ValueError(
            f'xy must be ({total}, 2) for batch {tuple(batch.shape)}, found {tuple(xy.shape)}'
        )
    if total and not images:
        raise ValueError(f'counts must hold a number for every image, found {tuple(counts.shape)}')
    # Of an image that holds them all; see the kernels on what a key is made of.
    side = math.sqrt(height * width / max(-(-total // cluster_size), 1))
    rows, columns = round(height / side) + 1, round(width / side) + 1
    most = max(width * rows, height * columns)
    if (
        most >= 1 << 28
        or 2 * max(columns * width, rows * height) > checks.MOST
        or images * rows * columns > checks.MOST
    ):
        raise ValueError(
            f'canvas (height, width) must be smaller for {total} tokens in clusters of '
            f'{cluster_size}, found {(height, width)}'
        )


def contents(
    xy: Tensor, batch: Tensor, counts: Tensor, height: int, width: int, cluster_size: int
) -> None:
    """Tokens are on the canvas, and as many in every image as are counted."""
    total, images = batch.shape[0], counts.shape[0]
    within(0, images - 1, batch=batch)
    within(0, total, counts=counts)
    found = numbers(torch.bincount(batch, minlength=images))
    if not (found == numbers(counts)).all():
        raise ValueError(
            f'counts must be the tokens per image of batch, {found.tolist()}, '
            f'found {counts.tolist()}'
        )
    within(0, width - 1, **{'xy[:, 0]': xy[:, 0]})
    within(0, height - 1, **{'xy[:, 1]': xy[:, 1]})


FORWARD = {'cpu': _on_cpu, 'cuda': _on_cuda, 'reference': _in_pytorch}

forward = define(
    'balanced_clusters',
    'Tensor xy, Tensor batch, Tensor counts, SymInt height, SymInt width, int cluster_size',
    '(Tensor, Tensor)',
    _results,
    FORWARD,
    takes='i2 l1 i1',
    check=check,
    contents=contents,
)
