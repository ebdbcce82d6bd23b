"""Cluster attention in plain PyTorch, on tiles of whole clusters."""

from __future__ import annotations

import torch
from torch import Tensor

from ...structures import Neighborhood, at_least_one
from ..position_terms import position_terms


def relative_geometry(neighborhood: Neighborhood, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Geometry of every (token, neighbour) pair: features ``(T, L, 5)`` and validity ``(T, L)``.

    The features are :func:`~mmseg_arta.ops.position_terms` of neighbour minus token in units of
    4 px. ``L`` is clusters per token times cluster size.
    """
    rows, valid = neighborhood.members
    nearest = neighborhood.neighbors.clamp(min=0)
    total, length = nearest.shape[0], nearest.shape[1] * neighborhood.cluster_size
    xy = neighborhood.xy.to(dtype)
    delta = at_least_one(xy)[rows][nearest].view(total, length, 2) - xy[:, None]
    exists = (valid[nearest] & (neighborhood.neighbors >= 0)[..., None]).view(total, length)
    return position_terms(delta), exists


def cluster_attention(
    q: Tensor,
    kv: Tensor,
    bias_weight: Tensor,
    bias_bias: Tensor,
    blank_k: Tensor,
    blank_v: Tensor,
    neighborhood: Neighborhood,
    blank_clamp: float | None,
    geometry: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """See :func:`mmseg_arta.ops.cluster_attention`."""
    total, heads, dim = q.shape
    if geometry is None:
        geometry = relative_geometry(neighborhood, q.dtype)
    features, exists = geometry
    rows, _ = neighborhood.members
    kv = at_least_one(kv)
    nearest = neighborhood.neighbors.clamp(min=0)

    def near(values: Tensor) -> Tensor:
        # Whole tiles are gathered: cluster_size * heads * dim values per neighbour.
        tiles = values.index_select(0, rows.flatten()).view(rows.shape[0], -1)
        return tiles.index_select(0, nearest.flatten()).view(total, features.shape[1], heads, dim)

    key, value = near(kv[:, :, 0]), near(kv[:, :, 1])

    q = q * dim**-0.5
    logits = (q[:, None] * key).sum(-1)
    features = features.to(bias_weight.dtype)
    logits = logits + torch.nn.functional.linear(features, bias_weight, bias_bias)
    logits = logits.masked_fill(~exists[..., None], -torch.inf)
    blank = (q * blank_k).sum(-1)[:, None]
    if blank_clamp is not None:
        blank = blank.clamp(-blank_clamp, blank_clamp)
    weights = torch.cat((logits, blank), 1).softmax(1)
    return (weights[:, :-1, :, None] * value).sum(1) + weights[:, -1, :, None] * blank_v
