"""Weighted sums over neighbouring tokens: the heart of PointConv (AFF eq. 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from . import checks
from .backend import chosen_backend
from .cpu import neighborhood_merge as cpu
from .cuda import neighborhood_merge as cuda
from .reference import neighborhood_merge as reference
from .triton import neighborhood_merge as triton

_BACKENDS = {'reference': reference, 'cpu': cpu, 'cuda': cuda, 'triton': triton}


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
        ValueError: if shapes, number types or devices do not fit together.
        IndexError: if a row lies beyond the features.
    """
    checks.floating(feats=feats, weights=weights)
    checks.int64(rows=rows)
    checks.same_device(feats=feats, rows=rows, weights=weights)
    if feats.ndim != 2:
        raise ValueError(f'feats must be (V, C), found {tuple(feats.shape)}')
    if rows.ndim != 2:
        raise ValueError(f'rows must be (T, k), found {tuple(rows.shape)}')
    if weights.ndim != 3 or weights.shape[:2] != rows.shape:
        raise ValueError(
            f'weights must be ({rows.shape[0]}, {rows.shape[1]}, M), found {tuple(weights.shape)}'
        )
    chosen = chosen_backend('neighborhood_merge', feats)
    # On GPUs half types are read as they are and summed in float32.
    halves = chosen in ('cuda', 'triton')
    kind = feats.dtype if halves else torch.promote_types(feats.dtype, torch.float32)
    backend = _BACKENDS[chosen]
    return backend.neighborhood_merge(feats.to(kind), rows, weights.to(kind)).to(feats.dtype)
