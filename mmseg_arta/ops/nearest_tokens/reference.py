"""Nearest tokens by comparing every place with every token, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

#: Distances are compared for at most this many (place, token) pairs at a time.
PAIRS_PER_CHUNK = 1 << 22


def nearest_tokens(
    places: Tensor,
    place_lengths: tuple[int, ...],
    centers: Tensor,
    lengths: tuple[int, ...],
    k: int,
) -> Tensor:
    """Rows ``(P, k)`` of the nearest centres, see :func:`mmseg_arta.ops.nearest_tokens`."""
    nearest = torch.full((places.shape[0], k), -1, dtype=torch.int64, device=places.device)
    # Double precision: coordinates are multiples of a half, so equal distances tie exactly.
    places, centers = places.detach().to(torch.float64), centers.to(torch.float64)
    row = first = 0
    for count, length in zip(place_lengths, lengths, strict=True):
        own = centers[first : first + length]
        chunk = max(PAIRS_PER_CHUNK // max(length, 1), 1)
        for begin in range(row, row + count, chunk):
            end = min(begin + chunk, row + count)
            delta = places[begin:end, None] - own
            distance = delta.square().sum(-1)
            for rank in range(min(k, length)):
                # argmin returns the first of equal values: the lowest row.
                index = distance.argmin(1, keepdim=True)
                nearest[begin:end, rank] = index[:, 0] + first
                distance.scatter_(1, index, torch.inf)
        row += count
        first += length
    return nearest
