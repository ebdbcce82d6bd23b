"""What stands in exported graphs in place of this package's operators: standard ones.

Of every op the graph gets the definition in PyTorch. Searches that take their time or their memory
by what they find are compared with everything here, which needs no number from the data.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.export import ExportedProgram

from ...ops.backend import ENV
from ...ops.balanced_clusters import kernels as balanced_clusters
from ...ops.balanced_clusters.reference import cluster_starts, sort_keys
from ...ops.nearest_clusters import kernels as nearest_clusters
from ...ops.nearest_clusters.reference import cluster_centers
from ...ops.nearest_tokens import kernels as nearest_tokens

#: Distances of at most this many pairs of places and points at a time: 128 MiB.
PAIRS_PER_CHUNK = 1 << 24

#: What the optimizer takes for 0, with a margin.
_NEAR_0 = 1e-6

Decompositions = dict[Any, Callable[..., Any]]


@contextmanager
def plain_ops() -> Generator[None]:
    """Within this context ops are made of PyTorch's operators alone.

    Those that are one call even on the reference are taken apart as well.
    """
    before = os.environ.get(ENV)
    os.environ[ENV] = 'reference'
    try:
        with ExitStack() as context:
            for kernels, function in SEARCHES.items():
                context.enter_context(patch.object(kernels, 'forward', function))
            yield
    finally:
        if before is None:
            del os.environ[ENV]
        else:
            os.environ[ENV] = before


def for_onnx() -> Decompositions:
    """Of PyTorch's operators that ONNX has no counterpart of, or one that is run less exactly."""
    aten = torch.ops.aten
    return {
        aten.group_norm.default: _group_norm,
        aten.searchsorted.Tensor: _searchsorted,
        aten.sort.stable: _sort,
        aten.sort.default: _sort_any,
        aten.argsort.stable: lambda x, **options: _sort(x, **options)[1],
        aten.argsort.default: lambda x, dim=-1, descending=False: _sort_any(x, dim, descending)[1],
        aten.embedding_bag.padding_idx: _embedding_bag,
        aten.embedding_bag.default: _embedding_bag,
        aten._embedding_bag_forward_only.default: _embedding_bag,
        aten._embedding_bag.default: _embedding_bag,
    }


def keep_small_summands(program: ExportedProgram) -> ExportedProgram:
    """Give sums with a number near 0 a tensor ``(1,)`` in its place.

    The optimizer of ONNX graphs takes a scalar below 1e-8 for 0 and leaves the sum out. Of a
    divisor that is a bound, and only that keeps it from 0.
    """
    graph = program.graph
    for node in graph.find_nodes(op='call_function', target=torch.ops.aten.add.Tensor):
        rows, number = node.args
        if not (isinstance(number, float) and 0 < abs(number) <= _NEAR_0 and not node.kwargs):
            continue
        with graph.inserting_before(node):
            dtype = node.meta['val'].dtype
            full = graph.call_function(torch.ops.aten.full.default, ([1], number), {'dtype': dtype})
            full.meta['val'] = node.meta['val'].new_full((1,), number)
        node.args = (rows, full)
    program.graph_module.recompile()
    return program


def _balanced_clusters(
    xy: Tensor,
    batch: Tensor,
    counts: Tensor,
    height: int,
    width: int,
    cluster_size: int,
    backend: str,
) -> tuple[Tensor, Tensor]:
    cell, ratio = sort_keys(xy, batch, counts, (height, width), cluster_size)
    # By the ratio, then by the cell: no number is looked at bit by bit.
    by_ratio = torch.sort(ratio, stable=True).indices
    by_cell = torch.sort(cell.index_select(0, by_ratio), stable=True).indices
    order = by_ratio.index_select(0, by_cell)
    return order, cluster_starts(counts, xy.shape[0], cluster_size)


def _nearest_clusters(
    xy: Tensor,
    start: Tensor,
    lengths: Sequence[int],
    cluster_size: int,
    num_neighbors: int,
    backend: str,
) -> Tensor:
    centers, counts = cluster_centers(xy, start, tuple(lengths), cluster_size)
    width = min(num_neighbors, start.shape[0] - 1)
    return _nearest(xy.to(torch.float64), lengths, centers, counts, width)


def _nearest_tokens(
    places: Tensor,
    centers: Tensor,
    place_lengths: Sequence[int],
    lengths: Sequence[int],
    k: int,
    backend: str,
) -> Tensor:
    # Double precision: coordinates are multiples of a half, so equal distances tie exactly.
    return _nearest(places.to(torch.float64), place_lengths, centers.to(torch.float64), lengths, k)


def _nearest(
    places: Tensor, place_lengths: Sequence[int], points: Tensor, lengths: Sequence[int], k: int
) -> Tensor:
    """Rows ``(P, k)`` int64 of the nearest points of every place's image, -1 for none."""
    found, row, first = [places.new_zeros((0, k), dtype=torch.int64)], 0, 0
    for count, length in zip(place_lengths, lengths, strict=True):
        own = points[first : first + length]
        chunk = max(PAIRS_PER_CHUNK // max(length, 1), 1)
        for begin in range(row, row + count, chunk):
            some = places[begin : min(begin + chunk, row + count)]
            columns = _nearest_of(some, own, min(k, length))
            rows = [column + first for column in columns]
            missing = [torch.full_like(some[:, 0], -1, dtype=torch.int64)] * (k - len(rows))
            found.append(torch.stack([*rows, *missing], 1))
        row, first = row + count, first + length
    return torch.cat(found)


def _nearest_of(places: Tensor, points: Tensor, k: int) -> list[Tensor]:
    """Columns ``(P,)`` of rows of ``points (N, 2)``, nearest first; of equals the lowest."""
    dx = places[:, 0, None] - points[:, 0]
    dy = places[:, 1, None] - points[:, 1]
    distance = dx * dx + dy * dy
    lanes = torch.arange(points.shape[0], device=points.device)
    nearest = []
    for _ in range(k):
        # argmin returns the first of equal values.
        index = distance.argmin(1)
        nearest.append(index)
        if len(nearest) < k:
            distance = distance.masked_fill(lanes == index[:, None], torch.inf)
    return nearest


def _searchsorted(
    edges: Tensor,
    values: Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    if edges.ndim != 1 or sorter is not None:
        return NotImplemented
    after = right or side == 'right'
    wide = values[..., None]
    beyond = edges <= wide if after else edges < wide
    return beyond.sum(-1, dtype=torch.int32 if out_int32 else torch.int64)


def _sort(
    x: Tensor, *, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> tuple[Tensor, Tensor]:
    # ONNX's TopK puts the lower index first among equals, so there the sort is stable.
    small = x.dtype in (torch.bool, torch.uint8, torch.int8, torch.int16)
    wide = x.to(torch.int32) if small else x
    values, indices = torch.topk(wide, x.shape[dim], dim, largest=descending, sorted=True)
    return values.to(x.dtype), indices


def _sort_any(x: Tensor, dim: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    return _sort(x, dim=dim, descending=descending)


def _group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    # ONNX Runtime adds up all values of a group in one float32 sum: over a million of them, those
    # of a map in one group, that is wrong by 1e-4. Means of rows, and their mean, are not.
    values = x.reshape(x.shape[0], num_groups, -1, x.shape[-1])

    def mean(of: Tensor) -> Tensor:
        return of.mean(-1, keepdim=True).mean(-2, keepdim=True)

    centered = values - mean(values)
    normed = (centered * torch.rsqrt(mean(centered * centered) + eps)).reshape(x.shape)
    channels = (-1, *[1] * (x.ndim - 2))
    normed = normed if weight is None else normed * weight.reshape(channels)
    return normed if bias is None else normed + bias.reshape(channels)


def _embedding_bag(
    table: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    # Bags of equally many rows, one after the other, as F.embedding_bag makes them of a matrix.
    bags = offsets.shape[0]
    padded = padding_idx is not None and padding_idx >= 0
    if mode != 0 or include_last_offset or padded or indices.shape[0] % max(bags, 1):
        return NotImplemented
    rows = F.embedding(indices, table)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights[:, None]
    summed = rows.view(bags, -1, table.shape[1]).sum(1)
    return summed, offsets.new_empty(0), offsets.new_empty(0), offsets.new_empty(0)


#: By the module whose ``forward`` they stand for.
SEARCHES: dict[ModuleType, Callable[..., Any]] = {
    balanced_clusters: _balanced_clusters,
    nearest_clusters: _nearest_clusters,
    nearest_tokens: _nearest_tokens,
}
