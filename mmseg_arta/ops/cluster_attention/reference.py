"""Cluster attention in plain PyTorch, on tiles of whole clusters."""

from __future__ import annotations

import torch
from torch import Tensor

from ...structures import Neighborhood, at_least_one
from ..position_terms import position_terms


def cluster_attention(
    q: Tensor,
    kv: Tensor,
    bias_weight: Tensor,
    bias_bias: Tensor,
    blank_k: Tensor,
    blank_v: Tensor,
    neighborhood: Neighborhood,
    blank_clamp: float | None,
) -> Tensor:
    """See :func:`mmseg_arta.ops.cluster_attention`."""
    total, heads, dim = q.shape
    delta, exists = neighborhood.pairs
    rows, _ = neighborhood.members
    kv = at_least_one(kv)
    nearest = neighborhood.neighbors.clamp(min=0)

    def near(values: Tensor) -> Tensor:
        # Whole tiles are gathered: cluster_size * heads * dim values per neighbour.
        tiles = values.index_select(0, rows.flatten()).view(rows.shape[0], -1)
        return tiles.index_select(0, nearest.flatten()).view(total, delta.shape[1], heads, dim)

    key, value = near(kv[:, :, 0]), near(kv[:, :, 1])

    q = q * dim**-0.5
    logits = (q[:, None] * key).sum(-1)
    # Squares of half precision overflow at 256.
    wide = torch.promote_types(bias_weight.dtype, torch.float32)
    features = position_terms(delta.to(wide)).to(bias_weight.dtype)
    logits = logits + torch.nn.functional.linear(features, bias_weight, bias_bias)
    logits = logits.masked_fill(~exists[..., None], -torch.inf)
    blank = (q * blank_k).sum(-1)[:, None]
    if blank_clamp is not None:
        blank = blank.clamp(-blank_clamp, blank_clamp)
    weights = torch.cat((logits, blank), 1).softmax(1)
    return (weights[:, :-1, :, None] * value).sum(1) + weights[:, -1, :, None] * blank_v
