"""Neighbourhood merge in plain PyTorch."""

from __future__ import annotations

from torch import Tensor

from ..weighted_rows import weighted_rows


def neighborhood_merge(feats: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """See :func:`mmseg_arta.ops.neighborhood_merge`."""
    places, _, sets = weights.shape
    weights = weights * (rows >= 0)[..., None]
    index = rows.clamp(min=0).repeat_interleave(sets, 0)
    out = weighted_rows(feats, index, weights.transpose(1, 2).flatten(0, 1))
    return out.view(places, sets, feats.shape[1])
