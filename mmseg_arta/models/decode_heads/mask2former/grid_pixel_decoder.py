"""The grid pixel decoder: that of Mask2Former as published, on dense maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....option_checks import MOST_CHANNELS, check_whole
from ....structures import MixedTokens, TokenSet, without_autocast
from ...layers import DeformAttention, to_maps, to_rows
from .pixel_decoder import (
    DeformEncoderLayer,
    PixelDecoderOutput,
    check_channels,
    check_pixel_decoder,
)
from .positions import Normalize, check_normalize, token_positions

# Groups of the group norms.
_GROUPS = 32


@dataclass(frozen=True)
class GridPlaces:
    """Where the cells of the encoder's maps are.

    Attributes:
        centers: ``(N, 2)`` centres of all cells, maps laid end to end, as shares of the image.
        sizes: ``(rows, columns)`` of every map.
        halves: ``(2,)`` float32 half the columns and half the rows of every map.
    """

    centers: Tensor
    sizes: tuple[tuple[int, int], ...]
    halves: tuple[Tensor, ...]

    @classmethod
    def of(cls, sizes: tuple[tuple[int, int], ...], device: torch.device) -> GridPlaces:
        """The places of maps that each cover the whole image."""
        centers = torch.cat([_cell_centers(size, device) for size in sizes])
        # Made on the device: numbers from the host would have to be copied there.
        halves = (torch.linspace(cols / 2, rows / 2, 2, device=device) for rows, cols in sizes)
        return cls(centers, sizes, tuple(halves))


class MapGroupNorm(nn.GroupNorm):
    """Group normalisation that takes a single cell too, whose groups of one channel are the bias.

    PyTorch's layer refuses that, in evaluation as well.
    """

    def forward(self, input: Tensor) -> Tensor:
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class GridDeformAttention(DeformAttention):
    """Multi-scale deformable attention by bilinear sampling of maps (Deformable DETR).

    Offsets are in cells of the map they sample.

    Args:
        dim: channels.
        num_heads: heads; must divide ``dim``.
        num_levels: maps that are sampled.
        num_points: samples per map and head.

    Raises:
        ValueError: if the heads do not divide the channels.
    """

    def forward(self, query: Tensor, x: Tensor, places: GridPlaces) -> Tensor:
        """``query`` (features with positions) and ``x (B, N, C)`` to ``(B, N, C)``."""
        batch, cells, dim = x.shape
        heads, shape = self.num_heads, (self.num_levels, self.num_points)
        # Cells last, which is the order in which grid_sample reads and writes.
        offsets = self.offsets(query).unflatten(2, (heads, *shape, 2)).permute(3, 0, 2, 4, 1, 5)
        weight = self.weights(query).unflatten(2, (heads, -1)).softmax(-1)
        weight = weight.unflatten(3, shape).permute(3, 0, 2, 4, 1).flatten(1, 2)  # (L, B H, P, N)
        value = self.value(x).transpose(1, 2).reshape(batch * heads, dim // heads, cells)
        levels = value.split([rows * cols for rows, cols in places.sizes], 2)
        out = value.new_zeros(value.shape)
        for level, size, half, offset, share in zip(
            levels, places.sizes, places.halves, offsets, weight, strict=True
        ):
            # Over half the cells, as grid_sample counts from -1 to 1.
            location = (places.centers * 2 - 1 + offset / half).flatten(0, 1)  # (B H, P, N, 2)
            maps = level.unflatten(2, size)
            # Places need more digits than half precision has: a model in it is sampled in float32.
            samples = F.grid_sample(maps.to(location.dtype), location, align_corners=False)
            samples = samples.to(level.dtype)  # (B H, C, P, N)
            # Point by point: the product of all would be another tensor of that size.
            for sample, scale in zip(samples.unbind(2), share.unbind(1), strict=True):
                out = torch.addcmul(out, sample, scale[:, None])
        return self.proj(out.view(batch, dim, cells).transpose(1, 2))


class GridPixelDecoder(nn.Module):
    """The pixel decoder of Mask2Former as published, on dense maps.

    The coarse maps pass deformable encoder layers; the finest one adds the next coarser
    result, resized, and passes a 3x3 convolution. Computes in the number type of its weights, in
    float32 under autocast too.

    Args:
        in_channels: channels of the maps, coarse to fine.
        dim: channels inside; a multiple of 32.
        mask_dim: channels of the mask features.
        num_layers: encoder layers.
        num_heads: attention heads.
        num_points: samples per map and head.
        hidden: channels inside the feed-forward networks.
        normalize: see :func:`~.positions.token_positions`.

    Raises:
        ValueError: for fewer than two levels or an option that does not fit.
    """

    #: Only the finest map has mask features.
    mask_tokens = 'finest'

    def __init__(
        self,
        in_channels: Sequence[int],
        dim: int = 256,
        mask_dim: int = 256,
        num_layers: int = 6,
        num_heads: int = 8,
        num_points: int = 4,
        hidden: int = 1024,
        normalize: Normalize = 'canvas',
    ) -> None:
        check_pixel_decoder(self, in_channels, dim, mask_dim, num_layers, num_heads)
        check_whole(self, most=MOST_CHANNELS, num_points=num_points, hidden=hidden)
        super().__init__()
        if dim % _GROUPS:
            raise ValueError(f'GridPixelDecoder.dim must be a multiple of {_GROUPS}, found {dim}')
        check_normalize(normalize)
        self.in_channels = tuple(in_channels)
        self.dim, self.normalize = dim, normalize
        coarse = self.in_channels[:-1]
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, dim, 1), MapGroupNorm(_GROUPS, dim))
            for channels in coarse
        )
        self.level_embed = nn.Parameter(torch.randn(len(coarse), dim))
        self.layers = nn.ModuleList(
            DeformEncoderLayer(
                dim, hidden, GridDeformAttention(dim, num_heads, len(coarse), num_points)
            )
            for _ in range(num_layers)
        )
        self.lateral = nn.Sequential(
            nn.Conv2d(self.in_channels[-1], dim, 1, bias=False), MapGroupNorm(_GROUPS, dim)
        )
        self.out_conv = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1, bias=False), MapGroupNorm(_GROUPS, dim), nn.ReLU()
        )
        self.mask_proj = nn.Conv2d(dim, mask_dim, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, tokens: MixedTokens) -> PixelDecoderOutput:
        """Decode a batch.

        Raises:
            ValueError: if levels or channels do not fit, or a level lacks tokens.
        """
        check_channels('GridPixelDecoder', self.in_channels, tokens)
        with without_autocast(tokens.levels[0].feats):
            maps = [_to_map(level, self.level_embed.dtype) for level in tokens.levels]
            coarse = self._encode(maps[:-1], tokens.levels[:-1], tokens.canvas)
            above = F.interpolate(
                coarse[-1], maps[-1].shape[2:], mode='bilinear', align_corners=False
            )
            finest = self.out_conv(self.lateral(maps[-1]) + above)
            feats = to_rows(self.mask_proj(finest)).flatten(0, 1)
        memory = tuple(
            level.with_feats(to_rows(feature_map).flatten(0, 1))
            for level, feature_map in zip(tokens.levels[:-1], coarse, strict=True)
        )
        last = tokens.levels[-1].with_feats(to_rows(finest).flatten(0, 1))
        return PixelDecoderOutput(memory, (last,), feats, tokens.canvas, tokens.image_size)

    def _encode(
        self, maps: Sequence[Tensor], levels: Sequence[TokenSet], canvas: tuple[int, int]
    ) -> list[Tensor]:
        """Coarse maps after the deformable encoder layers."""
        batch, device = maps[0].shape[0], maps[0].device
        sizes = tuple(level.grid for level in levels)
        x = [to_rows(proj(m)) for proj, m in zip(self.input_proj, maps, strict=True)]
        position = [
            token_positions([level], self.dim, canvas, self.normalize)
            .to(embed.dtype)
            .view(batch, -1, self.dim)
            + embed
            for level, embed in zip(levels, self.level_embed, strict=True)
        ]
        places = GridPlaces.of(sizes, device)
        rows, row_position = torch.cat(x, 1), torch.cat(position, 1)
        for layer in self.layers:
            rows = layer(rows, row_position, places)
        parts = rows.split([height * width for height, width in sizes], 1)
        return [to_maps(part, size) for part, size in zip(parts, sizes, strict=True)]


def _cell_centers(size: tuple[int, int], device: torch.device) -> Tensor:
    """Centres ``(rows * columns, 2)`` of a map's cells, the map being the unit square."""
    rows, cols = size
    ys = (torch.arange(rows, device=device) + 0.5) / rows
    xs = (torch.arange(cols, device=device) + 0.5) / cols
    yy, xx = torch.meshgrid(ys, xs, indexing='ij')
    return torch.stack((xx, yy), -1).flatten(0, 1)


def _to_map(level: TokenSet, kind: torch.dtype) -> Tensor:
    """A level that has all its tokens as a map ``(B, C, rows, columns)`` of a number type."""
    rows, cols = level.grid
    if any(length != rows * cols for length in level.lengths):
        raise ValueError(
            f'GridPixelDecoder needs all {rows * cols} tokens of every level, found '
            f'{min(level.lengths)} of {level.patch_size} px in an image: '
            f"use pixel_decoder='point' behind a sparse backbone"
        )
    rows_of_images = level.feats.to(kind).unflatten(0, (level.batch_size, -1))
    return to_maps(rows_of_images, level.grid)
