"""The point pixel decoder, on irregular tokens (AFF 4.1, ARTA 3.5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....ops import inverse_distance_weights, nearest_tokens, neighborhood_merge
from ....option_checks import (
    MOST_CHANNELS,
    MOST_PIXELS,
    check_choice,
    check_flag,
    check_number,
    check_numbers,
    check_share,
    check_whole,
)
from ....structures import MixedTokens, TokenSet, at_least_one, without_autocast
from ...layers import PointConv, PointDeformAttention, token_places
from .pixel_decoder import (
    DeformEncoderLayer,
    PixelDecoderOutput,
    check_channels,
    check_pixel_decoder,
)
from .positions import Normalize, check_normalize, token_positions

# Tokens that a sample is interpolated from.
_SAMPLE_TOKENS = 4
# Tokens that the PointConv sums over, the 3x3 of a regular grid.
_CONV_TOKENS = 9
# Power of the squared distance in the interpolation; that of the distance is 6 (AFF 4.1).
_POWER = 3.0


class PointPixelDecoder(nn.Module):
    """Aligns token levels: deformable encoder on the coarse levels, PointConv on the finest.

    Every level is projected to ``dim`` channels; encoder layers sample all coarse levels
    (AFF 4.1); the finest level adds what it interpolates from its 4 nearest tokens of the next
    coarser one and passes a PointConv over its 9 nearest tokens (ARTA 3.5). Levels may be empty,
    and images may have any number of tokens. Computes in the number type of its weights, in
    float32 under autocast too; sampling places, which need more digits than half precision has,
    in float32 at least.

    Args:
        in_channels: channels of the levels, coarse to fine.
        dim: channels inside.
        mask_dim: channels of the mask features.
        num_layers: encoder layers.
        num_heads: attention heads.
        num_points: samples per level and head.
        hidden: channels inside the feed-forward networks.
        mask_tokens: whose mask features to compute: 'all' tokens' (ARTA), or those of the
            'finest' level (AFF, where it covers the canvas).
        project_same: give a coarse level that has ``dim`` channels already a linear layer
            too (AFF), not only a LayerNorm (ARTA).
        normalize: how positions are normalised, see
            :func:`~.positions.token_positions`.
        floor, eps: of the interpolation, see :func:`mmseg_arta.ops.inverse_distance_weights`.
        offset_units: in how many finest patches (4 px) the sampling offsets of each coarse level
            count, coarse to fine. As published all count in one, so that the samples of a coarse
            level begin within a token or two; ``(8, 4, 2)`` for patches of 32, 16 and 8 px counts
            in the level's own, as Deformable DETR does.

    Raises:
        ValueError: for fewer than two levels or an unknown option.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        dim: int = 256,
        mask_dim: int = 256,
        num_layers: int = 6,
        num_heads: int = 8,
        num_points: int = 4,
        hidden: int = 1024,
        mask_tokens: str = 'all',
        project_same: bool = False,
        normalize: Normalize = 'canvas',
        floor: float = 0.01,
        eps: float = 1e-6,
        offset_units: Sequence[float] | None = None,
    ) -> None:
        check_pixel_decoder(self, in_channels, dim, mask_dim, num_layers, num_heads)
        check_whole(self, most=MOST_CHANNELS, num_points=num_points, hidden=hidden)
        super().__init__()
        check_choice(self, ('all', 'finest'), mask_tokens=mask_tokens)
        check_normalize(normalize)
        check_flag(self, project_same=project_same)
        check_share(self, floor=floor)
        # Its inverse is a number of single precision.
        check_number(self, 1e-30, 1.0, eps=eps)
        self.in_channels = tuple(in_channels)
        self.dim, self.mask_tokens, self.normalize = dim, mask_tokens, normalize
        self.floor, self.eps = floor, eps
        coarse = self.in_channels[:-1]
        self.input_proj = nn.ModuleList(_projection(c, dim, project_same) for c in coarse)
        self.level_embed = nn.Parameter(torch.randn(len(coarse), dim))
        if offset_units is not None:
            check_numbers(self, 1.0, MOST_PIXELS, count=len(coarse), offset_units=offset_units)
        sampling: dict[str, Any] = dict(floor=floor, eps=eps, offset_units=offset_units)
        self.layers = nn.ModuleList(
            DeformEncoderLayer(
                dim,
                hidden,
                PointDeformAttention(dim, num_heads, len(coarse), num_points, **sampling),
            )
            for _ in range(num_layers)
        )
        self.lateral = _projection(self.in_channels[-1], dim, True)
        self.point_conv = PointConv(dim, dim)
        self.out_norm = nn.LayerNorm(dim)
        self.mask_proj = nn.Linear(dim, mask_dim)
        nn.init.xavier_uniform_(self.point_conv.proj.weight)
        nn.init.xavier_uniform_(self.mask_proj.weight)

    def forward(self, tokens: MixedTokens) -> PixelDecoderOutput:
        """Decode a batch.

        Raises:
            ValueError: if the tokens do not have the levels and channels of ``in_channels``.
        """
        check_channels('PointPixelDecoder', self.in_channels, tokens)
        with without_autocast(tokens.levels[0].feats):
            kind = self.level_embed.dtype
            levels = [level.with_feats(level.feats.to(kind)) for level in tokens.levels]
            memory = self._encode(levels[:-1], tokens.canvas)
            finest = self._fuse(levels[-1], memory[-1])
            chosen = (*memory, finest) if self.mask_tokens == 'all' else (finest,)
            feats = self.mask_proj(torch.cat([level.feats for level in chosen]))
        return PixelDecoderOutput(memory, chosen, feats, tokens.canvas, tokens.image_size)

    def _encode(self, levels: Sequence[TokenSet], canvas: tuple[int, int]) -> tuple[TokenSet, ...]:
        x = torch.cat(
            [proj(level.feats) for proj, level in zip(self.input_proj, levels, strict=True)]
        )
        sizes = [len(level) for level in levels]
        position = token_positions(levels, self.dim, canvas, self.normalize)
        embed = [row.expand(size, -1) for size, row in zip(sizes, self.level_embed, strict=True)]
        position = position.to(self.level_embed.dtype) + torch.cat(embed)
        places = token_places(levels, canvas, _SAMPLE_TOKENS)
        for layer in self.layers:
            x = layer(x, position, places)
        parts = x.split(sizes)
        return tuple(level.with_feats(part) for level, part in zip(levels, parts, strict=True))

    def _fuse(self, finest: TokenSet, coarser: TokenSet) -> TokenSet:
        """The finest level plus what it interpolates of the coarser one, through PointConv."""
        centers = finest.centers()
        above = self._interpolate(coarser, centers, finest.lengths)
        x = self.lateral(finest.feats) + above
        nearest = nearest_tokens(centers, finest.lengths, finest, _CONV_TOKENS)
        relative = centers[:, None] - centers[nearest.rows.clamp(min=0)]
        x = self.point_conv(x, nearest.rows, relative)
        return finest.with_feats(F.relu(self.out_norm(x), inplace=True))

    def _interpolate(self, level: TokenSet, centers: Tensor, lengths: tuple[int, ...]) -> Tensor:
        """Features ``(T, C)`` of a level at ``centers (T, 2)``, by inverse distances."""
        nearest = nearest_tokens(centers, lengths, level, _SAMPLE_TOKENS)
        others = at_least_one(level.centers())[nearest.rows.clamp(min=0)]
        squared = (centers[:, None] - others).square().sum(-1)
        weight = inverse_distance_weights(squared, nearest.valid(), _POWER, self.floor, self.eps)
        return neighborhood_merge(level.feats, nearest.rows, weight[..., None])[:, 0]


def _projection(channels: int, dim: int, always: bool) -> nn.Sequential:
    """LayerNorm after a linear layer; that only if the channels differ, or ``always``."""
    norm = nn.LayerNorm(dim)
    if channels == dim and not always:
        return nn.Sequential(norm)
    linear = nn.Linear(channels, dim)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(linear, norm)
