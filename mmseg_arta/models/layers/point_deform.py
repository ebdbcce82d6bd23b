"""Deformable attention on irregular tokens, and a transformer block with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...ops import nearest_tokens_of_cells, point_deform_attention
from ...option_checks import MOST_PIXELS, check_numbers
from ...structures import FINEST_PATCH, TokenSet
from .basic import DropPath, Mlp, layer_scale
from .deform_attention import DeformAttention


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


class PointDeformAttention(DeformAttention):
    """Multi-scale deformable attention on irregular tokens (AFF 4.1).

    Args:
        dim: channels.
        num_heads: heads; must divide ``dim``.
        num_levels: levels that are sampled.
        num_points: samples per level and head.
        power: initial power of the squared distance in the interpolation; the paper's
            learnable power, 6, is that of the distance.
        floor, eps: see :func:`mmseg_arta.ops.inverse_distance_weights`.
        offset_units: unit of every level's sampling offsets, in finest patches (4 px); 1 for all
            as published.

    Raises:
        ValueError: if the heads do not divide the channels, or there is not one unit a level.
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
        offset_units: Sequence[float] | None = None,
    ) -> None:
        super().__init__(dim, num_heads, num_levels, num_points)
        self.floor, self.eps = floor, eps
        self.power = nn.Parameter(torch.tensor([power]))
        units = None
        if offset_units is not None:
            numbers = check_numbers(
                self, 1.0, MOST_PIXELS, count=num_levels, offset_units=offset_units
            )
            # A buffer, since a copy from the host would hold up every forward pass.
            units = torch.tensor(numbers)[:, None, None]
        self.register_buffer('offset_units', units, persistent=False)

    def forward(self, query: Tensor, x: Tensor, places: TokenPlaces) -> Tensor:
        """``query`` (features with positions) and ``x (V, C)`` to ``(V, C)``."""
        shape = (self.num_heads, self.num_levels, self.num_points)
        offsets = self.offsets(query).unflatten(1, (*shape, 2))
        if self.offset_units is not None:
            offsets = offsets * self.offset_units
        location = places.centers[:, None, None, None] + offsets
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


def token_places(
    levels: Sequence[TokenSet], canvas: tuple[int, int], num_neighbors: int = 4
) -> TokenPlaces:
    """Where the tokens of some levels are.

    Args:
        levels: token sets of the same images.
        canvas: ``(height, width)`` in pixels.
        num_neighbors: tokens that a sample is interpolated from.
    """
    grid = (-(-canvas[0] // FINEST_PATCH), -(-canvas[1] // FINEST_PATCH))
    nearest, first = [], 0
    for level in levels:
        nearest.append(nearest_tokens_of_cells(level, grid, num_neighbors).shifted(first))
        first += len(level)
    return TokenPlaces(
        torch.cat([level.centers() for level in levels]),
        torch.cat([level.batch_index() for level in levels]),
        torch.stack(nearest),
    )


class PointDeformBlock(nn.Module):
    """Pre-norm transformer block with :class:`PointDeformAttention` (ARTA table 5).

    Args:
        dim: channels.
        num_heads: attention heads.
        num_levels: levels that are sampled.
        mlp_ratio: hidden over input channels of the feed-forward network.
        drop_path: stochastic depth probability, drawn per image.
        layer_scale_init: initial layer scale, 0 for none.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_levels: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        layer_scale_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = PointDeformAttention(dim, num_heads, num_levels)
        self.scale1 = layer_scale(dim, layer_scale_init)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.scale2 = layer_scale(dim, layer_scale_init)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, places: TokenPlaces, position: Tensor) -> Tensor:
        """``x`` and ``position (V, C)``, levels laid end to end, to ``(V, C)``."""
        batch, images = places.batch, places.nearest.shape[1]
        y = self.norm1(x)
        x = x + self.drop_path(self.scale1(self.attn(y + position, y, places)), batch, images)
        return x + self.drop_path(self.scale2(self.mlp(self.norm2(x))), batch, images)
