"""Starts the CUDA kernels of balanced clusters, nearest clusters and nearest tokens."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..native.problems import stream
from ..reference.clusters import anchor_grid, cluster_centers, cluster_starts, image_index
from ..reverse_index import reverse_index
from . import interface, library

#: Most neighbours of a place that the search has.
MOST_NEAREST = 16


def unsupported(k: int) -> str:
    """Why the search does not have so many neighbours, or ''."""
    return '' if k <= MOST_NEAREST else f'{k} neighbours, at most {MOST_NEAREST} on CUDA'


def balanced(
    results: tuple[Tensor, Tensor],
    xy: Tensor,
    batch: Tensor,
    counts: Tensor,
    height: int,
    width: int,
    cluster_size: int,
) -> None:
    xy, at = xy.to(torch.int32), library.TARGET.address
    rows, cols = anchor_grid(counts, (height, width), cluster_size)
    cells = rows * cols
    anchors = torch.stack((rows, cols, cells.cumsum(0) - cells), 1)
    keys = batch.new_empty(batch.shape)
    total, images = xy.shape[0], counts.shape[0]
    library.call(
        'arta_cluster_keys',
        at('xy', xy, torch.int32, total, 2),
        at('batch', batch, torch.int64, total),
        at('anchors', anchors, torch.int64, images, 3),
        *(total, height, width, keys.data_ptr(), stream(xy)),
    )
    order, start = results
    order.copy_(torch.sort(keys, stable=True).indices)
    start.copy_(cluster_starts(counts, total, cluster_size))


def nearest_clusters(
    neighbors: Tensor,
    xy: Tensor,
    start: Tensor,
    lengths: list[int],
    cluster_size: int,
    num_neighbors: int,
) -> None:
    centers, clusters = cluster_centers(xy, start, tuple(lengths), cluster_size)
    nearest_tokens(neighbors, xy, centers, lengths, clusters, neighbors.shape[1])


def nearest_tokens(
    nearest: Tensor,
    places: Tensor,
    points: Tensor,
    place_lengths: Sequence[int],
    lengths: Sequence[int],
    k: int,
) -> None:
    """Every image's points go into a grid of about as many buckets, whose number follows from
    lengths on the host, so that nothing is read from the device.
    """
    device, images = points.device, len(lengths)
    places, points = places.double().contiguous(), points.double()
    nearest.fill_(-1)
    if images == 0 or points.shape[0] == 0 or places.shape[0] == 0:
        return
    sides = [max(math.isqrt(length), 1) for length in lengths]
    side = torch.tensor(sides, device=device)
    buckets = sum(count * count for count in sides)
    base = (side * side).cumsum(0) - side * side

    image = image_index(lengths, device)
    both = image[:, None].expand(-1, 2)
    low = points.new_full((images, 2), math.inf).scatter_reduce(0, both, points, 'amin')
    high = points.new_full((images, 2), -math.inf).scatter_reduce(0, both, points, 'amax')
    low, high = (torch.where(t.isfinite(), t, 0) for t in (low, high))
    step = ((high - low) / side[:, None]).clamp(min=1e-3)
    cell = ((points - low[image]) / step[image]).long()
    cell = torch.minimum(cell, side[image, None] - 1)
    bucket = base[image] + cell[:, 1] * side[image] + cell[:, 0]
    first, order = reverse_index(bucket, buckets)
    # Kept until the kernel has been started.
    ordered, image = points[order].contiguous(), image_index(place_lengths, device)
    grid = interface.Grid(
        *(t.data_ptr() for t in (ordered, order, first, low, step, base, side, places, image)),
        nearest.data_ptr(),
        *(places.shape[0], k, stream(places)),
    )
    library.call('arta_nearest', ctypes.byref(grid))
