"""Encoder layer of the point pixel decoder: deformable attention on irregular tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....ops import point_deform_attention


def init_deform_attention(module: nn.Module) -> None:
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


@dataclass(frozen=True)
class TokenPlaces:
    """Where the tokens of the encoder's levels are, shared by all its layers.

    Attributes:
        centers: ``(V, 2)`` centres of all tokens, levels laid end to end, units of 4 px.
        batch: ``(V,)`` int64 image of every token.
        nearest: ``(L, B, rows, columns, 4)`` int64 nearest tokens of every 4 px cell.
    """

    centers: Tensor
    batch: Tensor
    nearest: Tensor


class PointDeformAttention(nn.Module):
    """Multi-scale deformable attention on irregular tokens (AFF 4.1).

    Offsets are in units of 4 px for every level.

    Args:
        dim: channels.
        num_heads: heads; must divide ``dim``.
        num_levels: levels that are sampled.
        num_points: samples per level and head.
        power: initial power of the squared distance in the interpolation; the paper's
            learnable power, 6, is that of the distance.
        floor, eps: see :func:`mmseg_arta.ops.inverse_distance_weights`.

    Raises:
        ValueError: if the heads do not divide the channels.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        num_levels: int = 3,
        num_points: int = 4,
        power: float = 3.0,
        floor: float = 0.01,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f'num_heads must divide the {dim} channels, found {num_heads}')
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        self.floor, self.eps = floor, eps
        samples = num_heads * num_levels * num_points
        self.power = nn.Parameter(torch.tensor([power]))
        self.offsets = nn.Linear(dim, samples * 2)
        self.weights = nn.Linear(dim, samples)
        self.value = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)
        init_deform_attention(self)

    def forward(self, query: Tensor, x: Tensor, places: TokenPlaces) -> Tensor:
        """``query`` (features with positions) and ``x (V, C)`` to ``(V, C)``."""
        shape = (self.num_heads, self.num_levels, self.num_points)
        location = places.centers[:, None, None, None] + self.offsets(query).unflatten(
            1, (*shape, 2)
        )
        weight = self.weights(query).unflatten(1, (self.num_heads, -1)).softmax(-1)
        out = point_deform_attention(
            self.value(x).unflatten(1, (self.num_heads, -1)),
            places.centers,
            places.nearest,
            places.batch,
            location,
            weight.unflatten(2, shape[1:]),
            self.power,
            self.floor,
            self.eps,
        )
        return self.proj(out.flatten(1))


class DeformEncoderLayer(nn.Module):
    """Post-norm transformer layer with deformable attention.

    Args:
        dim: channels.
        hidden: channels inside the feed-forward network.
        attn: the attention, called with queries, values and where they are.
    """

    def __init__(self, dim: int, hidden: int, attn: nn.Module) -> None:
        super().__init__()
        self.attn = attn
        self.norm1 = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.norm2 = nn.LayerNorm(dim)
        for layer in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Tensor, position: Tensor, places: Any) -> Tensor:
        """``x`` and ``position (..., C)`` to ``(..., C)``; ``places`` is what ``attn`` takes."""
        x = self.norm1(x + self.attn(x + position, x, places))
        return self.norm2(x + self.fc2(F.relu(self.fc1(x))))
