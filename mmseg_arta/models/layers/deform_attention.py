"""The layers of multi-scale deformable attention, whatever it samples."""

from __future__ import annotations

import math

import torch
from torch import nn


class DeformAttention(nn.Module):
    """Base of deformable attentions (Deformable DETR); its subclasses sample tokens or maps.

    Args:
        dim: channels.
        num_heads: heads; must divide ``dim``.
        num_levels: levels that are sampled.
        num_points: samples per level and head.

    Raises:
        ValueError: if the heads do not divide the channels.
    """

    def __init__(self, dim: int, num_heads: int, num_levels: int, num_points: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f'num_heads must divide the {dim} channels, found {num_heads}')
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        samples = num_heads * num_levels * num_points
        self.offsets = nn.Linear(dim, samples * 2)
        self.weights = nn.Linear(dim, samples)
        self.value = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)
        init_deform_attention(self)


def init_deform_attention(module: DeformAttention) -> None:
    """Samples start on rays around the token, one direction a head, all equally heavy."""
    nn.init.zeros_(module.offsets.weight)
    angles = torch.arange(module.num_heads) * (2 * math.pi / module.num_heads)
    rays = torch.stack((angles.cos(), angles.sin()), -1)
    rays = rays / rays.abs().amax(-1, keepdim=True)
    steps = torch.arange(1, module.num_points + 1)
    rays = rays[:, None, None] * steps[:, None]
    with torch.no_grad():
        module.offsets.bias.copy_(rays.expand(-1, module.num_levels, -1, -1).reshape(-1))
    for tensor in (
        module.weights.weight,
        module.weights.bias,
        module.value.bias,
        module.proj.bias,
    ):
        nn.init.zeros_(tensor)
    nn.init.xavier_uniform_(module.value.weight)
    nn.init.xavier_uniform_(module.proj.weight)
