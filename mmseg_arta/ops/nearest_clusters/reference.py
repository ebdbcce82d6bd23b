"""Nearest clusters by comparing every token with every cluster."""

from __future__ import annotations

import torch
from torch import Tensor

from ..nearest_tokens import reference


def cluster_centers(
    xy: Tensor, start: Tensor, lengths: tuple[int, ...], cluster_size: int
) -> tuple[Tensor, tuple[int, ...]]:
    """Mean places of all clusters that exist, ``(C, 2)`` float64, and how many an image has."""
    # Sums over rows by prefix sums: exact, as coordinates are integers.
    prefix = torch.nn.functional.pad(xy.to(torch.float64).cumsum(0), (0, 0, 1, 0))
    counts = tuple(-(-length // cluster_size) for length in lengths)
    start = start[: sum(counts) + 1]
    members = start[1:] - start[:-1]
    return (prefix[start[1:]] - prefix[start[:-1]]) / members[:, None], counts


def nearest_clusters(
    xy: Tensor, start: Tensor, lengths: tuple[int, ...], cluster_size: int, num_neighbors: int
) -> Tensor:
    """See :func:`mmseg_arta.ops.nearest_clusters`."""
    centers, counts = cluster_centers(xy, start, lengths, cluster_size)
    width = min(num_neighbors, start.shape[0] - 1)
    return reference.nearest_tokens(xy, lengths, centers, counts, width)
