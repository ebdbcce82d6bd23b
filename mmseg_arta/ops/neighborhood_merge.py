"""Weighted sums over neighbouring tokens: the heart of PointConv (AFF eq. 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from .reference import neighborhood_merge as reference


def neighborhood_merge(feats: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Sum the features of each place's neighbours with several sets of weights.

    Args:
        feats: ``(V, C)`` features of the tokens.
        rows: ``(T, k)`` int64 neighbours of every place; those below 0 do not count.
        weights: ``(T, k, M)`` weights.

    Returns:
        ``(T, M, C)``, ``out[t, m] = sum_k weights[t, k, m] feats[rows[t, k]]``, in the number
        type of ``feats``; computed in float32 or better.

    Raises:
        ValueError: if shapes do not fit together.
    """
    if weights.ndim != 3 or weights.shape[:2] != rows.shape:
        raise ValueError(
            f'weights must be ({rows.shape[0]}, {rows.shape[1]}, M), found {tuple(weights.shape)}'
        )
    kind = torch.promote_types(feats.dtype, torch.float32)
    return reference.neighborhood_merge(feats.to(kind), rows, weights.to(kind)).to(feats.dtype)
