"""Nearest tokens in C++, as a PyTorch op."""

from __future__ import annotations

import torch
from torch import Tensor

from ...structures import TokenSet
from . import library


@torch.library.custom_op(
    'mmseg_arta::nearest_tokens_cpu',
    mutates_args=(),
    device_types='cpu',
    schema='(Tensor places, SymInt[] place_lengths, Tensor centers, SymInt[] lengths, int k) '
    '-> Tensor',
)
def _nearest(places, place_lengths, centers, lengths, k):
    # Double precision: coordinates are multiples of a half, so equal distances tie exactly.
    places = places.to(torch.float64).contiguous()
    centers = centers.to(torch.float64).contiguous()
    nearest = _output(places, k)
    library.call(
        'arta_nearest_tokens',
        library.address(places, torch.float64, (sum(place_lengths), 2), 'places'),
        library.lengths(place_lengths),
        library.address(centers, torch.float64, (sum(lengths), 2), 'centers'),
        library.lengths(lengths),
        len(lengths),
        k,
        nearest.data_ptr(),
        library.threads(),
    )
    return nearest


def _output(places: Tensor, k: int) -> Tensor:
    return places.new_empty((places.shape[0], k), dtype=torch.int64)


@_nearest.register_fake
def _(places, place_lengths, centers, lengths, k):
    return _output(places, k)


def nearest_tokens(
    places: Tensor, place_lengths: tuple[int, ...], level: TokenSet, k: int
) -> Tensor:
    """Rows ``(P, k)``, see :func:`mmseg_arta.ops.nearest_tokens`."""
    return _nearest(places.detach(), place_lengths, level.centers(), level.lengths, k)
