"""Weighted sums of gathered rows without a copy of the gathered rows."""

from __future__ import annotations

import torch
from torch import Tensor

from ..structures import at_least_one


def weighted_rows(table: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """``out[n] = sum_j weights[n, j] * table[index[n, j]]``.

    Args:
        table: ``(V, C)``; with no rows every sum is 0.
        index: ``(N, J)`` int64, 0 where the weight is 0 by design; ``J`` may be 0.
        weights: ``(N, J)``.

    Returns:
        ``(N, C)``.
    """
    table = at_least_one(table)
    if index.shape[1] == 0:
        index = torch.nn.functional.pad(index, (0, 1))
        weights = torch.nn.functional.pad(weights, (0, 1))
    return torch.nn.functional.embedding_bag(index, table, per_sample_weights=weights, mode='sum')
