"""Per-image reductions over packed rows, without a host synchronisation."""

from __future__ import annotations

import torch
from torch import Tensor


def segment_ends(mask: Tensor, offsets: Tensor) -> Tensor:
    """How many rows are marked before each image, and in all: ``mask (N,)`` to ``(B + 1,)`` int64.

    These are the row offsets of the marked rows.
    """
    running = torch.nn.functional.pad(mask.cumsum(0, dtype=torch.int64), (1, 0))
    return running.index_select(0, offsets)


def segment_counts(mask: Tensor, offsets: Tensor) -> Tensor:
    """How many rows of each image are marked: ``mask (N,)`` bool to ``(B,)`` int64."""
    return segment_ends(mask, offsets).diff()


def segment_softmax(values: Tensor, batch: Tensor, batch_size: int) -> Tensor:
    """Softmax over the rows of each image, ``(N,)``."""
    peak = values.new_full((batch_size,), -torch.inf)
    peak = peak.scatter_reduce(0, batch, values.detach(), 'amax')
    exp = (values - peak[batch]).exp()
    total = values.new_zeros(batch_size).index_add(0, batch, exp)
    return exp / total[batch]


def segment_top(scores: Tensor, batch: Tensor, offsets: Tensor, counts: Tensor) -> Tensor:
    """Mark the ``counts (B,)`` highest scores of each image, ``(N,)`` bool.

    Among equal scores the earlier row wins.
    """
    by_score = torch.sort(scores, descending=True, stable=True).indices
    order = by_score[torch.sort(batch[by_score], stable=True).indices]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(order.shape[0], device=order.device)
    return rank - offsets[batch].long() < counts[batch]
