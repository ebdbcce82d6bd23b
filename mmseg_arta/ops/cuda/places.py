"""Balanced clusters, nearest clusters and tokens, and patches in CUDA, as PyTorch ops."""

from __future__ import annotations

import ctypes
import math

import torch
from torch import Tensor

from ...structures import FINEST_PATCH, TokenSet
from ..reference.clusters import anchor_grid, cluster_starts
from . import interface, library

#: Most neighbours of a place that the search has.
MOST_NEAREST = 16


def unsupported(k: int) -> str:
    """Why the search does not have so many neighbours, or ''."""
    return '' if k <= MOST_NEAREST else f'{k} neighbours, at most {MOST_NEAREST} on CUDA'


def compute_balanced(
    xy: Tensor, batch: Tensor, counts: Tensor, height: int, width: int, cluster_size: int
) -> tuple[Tensor, Tensor]:
    """Order of the tokens and first row of every cluster."""
    xy, batch = xy.to(torch.int32).contiguous(), batch.contiguous()
    rows, cols = anchor_grid(counts, (height, width), cluster_size)
    cells = rows * cols
    anchors = torch.stack((rows, cols, cells.cumsum(0) - cells), 1)
    keys = batch.new_empty(batch.shape)
    total, images = xy.shape[0], counts.shape[0]
    library.call(
        'arta_cluster_keys',
        library.address(xy, torch.int32, (total, 2), 'xy'),
        library.address(batch, torch.int64, (total,), 'batch'),
        library.address(anchors, torch.int64, (images, 3), 'anchors'),
        *(total, height, width, keys.data_ptr(), library.stream(xy)),
    )
    order = torch.sort(keys, stable=True).indices
    return order, cluster_starts(counts, total, cluster_size)


def compute_nearest(
    places: Tensor, place_lengths: list[int], points: Tensor, lengths: list[int], k: int
) -> Tensor:
    """Rows ``(P, k)`` of the nearest of an image's points, -1 where there are fewer.

    Every image's points go into a grid of about as many buckets, whose number follows from
    lengths on the host, so that nothing is read from the device.
    """
    device, images = points.device, len(lengths)
    places, points = places.double().contiguous(), points.double()
    nearest = torch.full((places.shape[0], k), -1, dtype=torch.int64, device=device)
    if images == 0 or points.shape[0] == 0 or places.shape[0] == 0:
        return nearest
    sides = [max(math.isqrt(length), 1) for length in lengths]
    side = torch.tensor(sides, device=device)
    buckets = sum(count * count for count in sides)
    base = (side * side).cumsum(0) - side * side

    def image_of(counts: list[int]) -> Tensor:
        repeats = torch.tensor(list(counts), device=device)
        return torch.arange(images, device=device).repeat_interleave(
            repeats, output_size=sum(counts)
        )

    image = image_of(lengths)
    both = image[:, None].expand(-1, 2)
    low = points.new_full((images, 2), math.inf).scatter_reduce(0, both, points, 'amin')
    high = points.new_full((images, 2), -math.inf).scatter_reduce(0, both, points, 'amax')
    low, high = (torch.where(t.isfinite(), t, 0) for t in (low, high))
    step = ((high - low) / side[:, None]).clamp(min=1e-3)
    cell = ((points - low[image]) / step[image]).long()
    cell = torch.minimum(cell, side[image, None] - 1)
    bucket = base[image] + cell[:, 1] * side[image] + cell[:, 0]
    first, order = library.reverse_index(bucket, buckets)
    # Kept until the kernel has been started.
    ordered, image = points[order].contiguous(), image_of(place_lengths)
    grid = interface.Grid(
        *(t.data_ptr() for t in (ordered, order, first, low, step, base, side, places, image)),
        nearest.data_ptr(),
        *(places.shape[0], k, library.stream(places)),
    )
    library.call('arta_nearest', ctypes.byref(grid))
    return nearest


def compute_patches(image: Tensor, xy: Tensor, batch: Tensor, patch_size: int) -> Tensor:
    """Pixels ``(T, P * P * C)``."""
    image, xy, batch = image.contiguous(), xy.to(torch.int32).contiguous(), batch.contiguous()
    _, channels, height, width = image.shape
    total = xy.shape[0]
    out = _patches(image, xy, patch_size)
    library.call(
        'arta_gather_patches',
        library.address(image, image.dtype, tuple(image.shape), 'image'),
        library.address(xy, torch.int32, (total, 2), 'xy'),
        library.address(batch, torch.int64, (total,), 'batch'),
        *(total, channels, height, width, patch_size, FINEST_PATCH, image.element_size()),
        out.data_ptr(),
        library.stream(image),
    )
    return out


def _patches(image: Tensor, xy: Tensor, patch_size: int) -> Tensor:
    return image.new_empty((xy.shape[0], patch_size * patch_size * image.shape[1]))


_balanced = torch.library.custom_op(
    'mmseg_arta::balanced_clusters_cuda',
    compute_balanced,
    mutates_args=(),
    device_types='cuda',
    schema='(Tensor xy, Tensor batch, Tensor counts, SymInt height, SymInt width, '
    'int cluster_size) -> (Tensor, Tensor)',
)
_nearest = torch.library.custom_op(
    'mmseg_arta::nearest_cuda',
    compute_nearest,
    mutates_args=(),
    device_types='cuda',
    schema='(Tensor places, SymInt[] place_lengths, Tensor points, SymInt[] lengths, int k) '
    '-> Tensor',
)
_gather = torch.library.custom_op(
    'mmseg_arta::gather_patches_cuda',
    compute_patches,
    mutates_args=(),
    device_types='cuda',
    schema='(Tensor image, Tensor xy, Tensor batch, int patch_size) -> Tensor',
)


@_balanced.register_fake
def _(xy, batch, counts, height, width, cluster_size):
    clusters = xy.shape[0] // cluster_size + counts.shape[0]
    return batch.new_empty(batch.shape), batch.new_empty((clusters + 1,))


@_nearest.register_fake
def _(places, place_lengths, points, lengths, k):
    return places.new_empty((places.shape[0], k), dtype=torch.int64)


@_gather.register_fake
def _(image, xy, batch, patch_size):
    return _patches(image, xy, patch_size)


def _setup_context(ctx, inputs, output):
    image, xy, batch, ctx.patch_size = inputs
    ctx.image_shape = tuple(image.shape)
    ctx.save_for_backward(xy, batch)


def _autograd(ctx, grad_out):
    xy, batch = ctx.saved_tensors
    images, channels, height, width = ctx.image_shape
    size, unit = ctx.patch_size, ctx.patch_size // FINEST_PATCH
    rows, cols = height // size, width // size
    index = (batch * rows + xy[:, 1] // unit) * cols + xy[:, 0] // unit
    tiles = grad_out.new_zeros((images * rows * cols, size * size * channels))
    tiles = tiles.index_add(0, index, grad_out)
    tiles = tiles.view(images, rows, cols, size, size, channels)
    return tiles.permute(0, 5, 1, 3, 2, 4).reshape(ctx.image_shape), None, None, None


_gather.register_autograd(_autograd, setup_context=_setup_context)


def balanced_clusters(
    xy: Tensor, batch: Tensor, counts: Tensor, canvas: tuple[int, int], cluster_size: int
) -> tuple[Tensor, Tensor]:
    """See :func:`mmseg_arta.ops.balanced_clusters`."""
    return _balanced(xy, batch, counts, *canvas, cluster_size)


def cluster_centers(xy: Tensor, start: Tensor) -> Tensor:
    """Means of the members of every cluster, ``(K, 2)`` float64."""
    # Sums over rows by prefix sums: exact, as coordinates are integers.
    prefix = torch.nn.functional.pad(xy.double().cumsum(0), (0, 0, 1, 0))
    members = (start[1:] - start[:-1]).clamp(min=1)
    return (prefix[start[1:]] - prefix[start[:-1]]) / members[:, None]


def nearest_clusters(
    xy: Tensor, start: Tensor, lengths: tuple[int, ...], cluster_size: int, num_neighbors: int
) -> Tensor:
    """See :func:`mmseg_arta.ops.nearest_clusters`."""
    clusters = [-(-length // cluster_size) for length in lengths]
    centers = cluster_centers(xy, start)[: sum(clusters)]
    width = min(num_neighbors, start.shape[0] - 1)
    return _nearest(xy, lengths, centers, clusters, width)


def nearest_tokens(
    places: Tensor, place_lengths: tuple[int, ...], level: TokenSet, k: int
) -> Tensor:
    """Rows ``(P, k)``, see :func:`mmseg_arta.ops.nearest_tokens`."""
    return _nearest(places.detach(), place_lengths, level.centers(), level.lengths, k)


def gather_patches(image: Tensor, xy: Tensor, batch: Tensor, patch_size: int) -> Tensor:
    """See :func:`mmseg_arta.ops.gather_patches`."""
    return _gather(image, xy, batch, patch_size)
