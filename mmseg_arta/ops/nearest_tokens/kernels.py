"""Nearest tokens as a PyTorch op, and how the searches that implement it are started."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from ctypes import POINTER, c_int, c_int64, c_void_p

import torch
from torch import Tensor

from ...structures.host_values import on_device
from .. import checks
from ..bucket_search import image_index, nearest_points
from ..custom_op import define
from ..library import cpu, cuda, fields, host_lengths, stream
from ..reverse_index import reverse_index

#: Most neighbours of a place that the search on CUDA has.
MOST_NEAREST = 16

#: Most neighbours of a place: every place has room for so many.
MOST_K = 1 << 16


class Grid(ctypes.Structure):
    """``ArtaGrid``."""

    _fields_ = [
        *fields(c_void_p, 'points index first low step base side places image nearest'),
        *fields(c_int64, 'total k'),
        *fields(c_void_p, 'stream'),
    ]


_P, _N = c_void_p, c_int64
cpu.declare(
    'nearest_tokens',
    2,
    arta_nearest_tokens=(c_int, _P, _N, _P, _P, _N, _P, _N, _N, _P, _N),
)
cuda.declare('nearest_tokens', 1, arta_nearest=(c_int, POINTER(Grid)))


def unsupported_on_cuda(k: int) -> str:
    """Why the search on CUDA does not have so many neighbours, or ''."""
    return '' if k <= MOST_NEAREST else f'{k} neighbours, at most {MOST_NEAREST} on CUDA'


def _on_cpu(
    rows: Tensor,
    places: Tensor,
    centers: Tensor,
    place_lengths: list[int],
    lengths: list[int],
    k: int,
) -> None:
    # Double precision: coordinates are multiples of a half, so equal distances tie exactly.
    places, centers = places.double(), centers.double()
    at, double = cpu.address, torch.float64
    cpu.call(
        'arta_nearest_tokens',
        *(at('places', places, double, sum(place_lengths), 2), len(places)),
        host_lengths(place_lengths),
        *(at('centers', centers, double, sum(lengths), 2), len(centers), host_lengths(lengths)),
        *(len(lengths), k, rows.data_ptr(), torch.get_num_threads()),
    )


def search_on_cuda(
    nearest: Tensor,
    places: Tensor,
    points: Tensor,
    place_lengths: Sequence[int],
    lengths: Sequence[int],
    k: int,
) -> None:
    """The ``k`` nearest points of each place, see :func:`mmseg_arta.ops.nearest_tokens`.

    Every image's points go into a grid of about as many buckets, whose number follows from
    lengths on the host, so that nothing is read from the device.
    """
    device, images = points.device, len(lengths)
    places, points = places.double().contiguous(), points.double()
    nearest.fill_(-1)
    if images == 0 or points.shape[0] == 0 or places.shape[0] == 0:
        return
    sides = [max(math.isqrt(length), 1) for length in lengths]
    side = on_device(sides, device)
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
    grid = Grid(
        *(t.data_ptr() for t in (ordered, order, first, low, step, base, side, places, image)),
        nearest.data_ptr(),
        *(places.shape[0], k, stream(places)),
    )
    cuda.call('arta_nearest', ctypes.byref(grid))


def _in_pytorch(
    rows: Tensor,
    places: Tensor,
    centers: Tensor,
    place_lengths: list[int],
    lengths: list[int],
    k: int,
) -> None:
    images = [image_index(counts, places.device) for counts in (lengths, place_lengths)]
    rows.copy_(nearest_points(centers.double(), images[0], places.double(), images[1], k))


def _rows(places: Tensor, centers: Tensor, place_lengths, lengths, k: int) -> Tensor:
    return places.new_empty((places.shape[0], k), dtype=torch.int64)


def check(
    places: Tensor, centers: Tensor, place_lengths: Sequence[int], lengths: Sequence[int], k: int
) -> None:
    """Lengths are those of the places and centres of as many images."""
    checks.size(1, MOST_K, k=k)
    for name, tensor in dict(places=places, centers=centers).items():
        if tensor.shape[1] != 2:
            raise ValueError(f'{name} must be (N, 2), found {tuple(tensor.shape)}')
    checks.lengths(places.shape[0], 'places', place_lengths=place_lengths)
    checks.lengths(centers.shape[0], 'centers', lengths=lengths)
    if len(place_lengths) != len(lengths):
        raise ValueError(
            f'place_lengths must be those of {len(lengths)} images as lengths are, '
            f'found {len(place_lengths)}'
        )


def contents(
    places: Tensor, centers: Tensor, place_lengths: Sequence[int], lengths: Sequence[int], k: int
) -> None:
    """Coordinates are finite."""
    checks.near(places=places, centers=centers)


FORWARD = {'cpu': _on_cpu, 'cuda': search_on_cuda, 'reference': _in_pytorch}

forward = define(
    'nearest_tokens',
    'Tensor places, Tensor centers, SymInt[] place_lengths, SymInt[] lengths, int k',
    'Tensor',
    _rows,
    FORWARD,
    takes='r2 r2',
    check=check,
    contents=contents,
)
