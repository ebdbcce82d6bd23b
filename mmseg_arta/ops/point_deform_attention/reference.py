"""Point deformable attention in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from ...structures import at_least_one
from ..nearest_tokens import inverse_distance_weights
from ..weighted_rows import weighted_rows


def point_deform_attention(
    value: Tensor,
    centers: Tensor,
    nearest: Tensor,
    batch: Tensor,
    location: Tensor,
    weight: Tensor,
    power: Tensor,
    floor: float,
    eps: float,
) -> Tensor:
    """See :func:`mmseg_arta.ops.point_deform_attention`."""
    queries, heads, levels, _ = weight.shape
    _, images, rows, cols, k = nearest.shape
    cell = location.detach().round()
    col = cell[..., 0].clamp(0, cols - 1).long()
    row = cell[..., 1].clamp(0, rows - 1).long()
    level = torch.arange(levels, device=weight.device)[:, None]
    image = level * images + batch[:, None, None, None]
    index = nearest.reshape(-1, k)[(image * rows + row) * cols + col]  # (Q, H, L, P, k)

    valid = index >= 0
    index = index.clamp(min=0)
    # If there is none, a row to look at; it weighs nothing.
    value, centers = at_least_one(value), at_least_one(centers)
    squared = (location[..., None, :] - centers[index]).square().sum(-1)
    share = inverse_distance_weights(squared, valid, power, floor, eps)

    # A row per (token, head), and for every (query, head) the rows it sums.
    index = index * heads + torch.arange(heads, device=index.device)[:, None, None, None]
    out = weighted_rows(
        value.flatten(0, 1),
        index.flatten(2).flatten(0, 1),
        (weight[..., None] * share).flatten(2).flatten(0, 1),
    )
    return out.view(queries, heads, value.shape[2])
