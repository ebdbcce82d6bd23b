"""Weighted sums over neighbouring tokens: the heart of PointConv (AFF eq. 4)."""

from __future__ import annotations

from torch import Tensor

from ...structures.contents import readable
from .. import checks
from ..backend import chosen_backend, converted, number_types, register_op
from . import kernels, reference

register_op('neighborhood_merge', kernels.FORWARD)


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
    real, _ = number_types(chosen, feats.dtype)
    values, factors = converted(real, feats, weights)
    if chosen == 'reference':
        if readable(rows):
            kernels.contents(values, rows, factors)
        out = reference.neighborhood_merge(values, rows, factors)
    else:
        out = kernels.forward(values, rows, factors, chosen)
    return converted(feats.dtype, out)[0]
