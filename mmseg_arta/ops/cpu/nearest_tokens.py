"""Starts the C++ kernel of nearest tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from . import library


def nearest(
    rows: Tensor,
    places: Tensor,
    centers: Tensor,
    place_lengths: list[int],
    lengths: list[int],
    k: int,
) -> None:
    # Double precision: coordinates are multiples of a half, so equal distances tie exactly.
    places, centers = places.double(), centers.double()
    at, double = library.TARGET.address, torch.float64
    library.call(
        'arta_nearest_tokens',
        *(at('places', places, double, sum(place_lengths), 2), library.lengths(place_lengths)),
        *(at('centers', centers, double, sum(lengths), 2), library.lengths(lengths)),
        *(len(lengths), k, rows.data_ptr(), torch.get_num_threads()),
    )
