"""The standard pixel decoder, for dense maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....structures import MixedTokens, TokenSet
from ...layers import softmax_of_few, to_maps, to_rows
from .deform_layer import DeformEncoderLayer, init_deform_attention
from .pixel_decoder import PixelDecoderOutput
from .positions import Normalize, check_normalize, token_positions

_GROUPS = 32


@dataclass(frozen=True)
class GridPlaces:
    """Where the cells of the encoder's maps are.

    Attributes:
        centers: ``(N, 2)`` centres of all cells, maps laid end to end, as shares of the image.
        sizes: ``(rows, columns)`` of every map.
    """

    centers: Tensor
    sizes: tuple[tuple[int, int], ...]


class GridDeformAttention(nn.Module):
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

    def forward(self, query: Tensor, x: Tensor, places: GridPlaces, project: bool = True) -> Tensor:
        """``query`` (features with positions) and ``x (B, N, C)`` to ``(B, N, C)``.

        ``project=False`` leaves the last layer, ``proj``, out.
        """
        batch, cells, dim = x.shape
        heads, shape = self.num_heads, (self.num_levels, self.num_points)
        # Cells last, which is the order in which everything below reads and writes.
        offsets = self.offsets(query).unflatten(2, (heads, *shape, 2)).permute(3, 0, 2, 4, 1, 5)
        weight = softmax_of_few(self.weights(query).unflatten(2, (heads, -1)))
        weight = weight.unflatten(3, shape).permute(3, 0, 2, 4, 1).flatten(1, 2)  # (L, B H, P, N)
        value = self.value(x).transpose(1, 2).reshape(batch * heads, dim // heads, cells)
        parts = value.split([rows * cols for rows, cols in places.sizes], 2)
        # A CPU takes one point at a time: large tensors are handed out and cleared anew each time.
        points = 1 if x.device.type == 'cpu' else self.num_points
        out = value.new_zeros(value.shape)
        for part, size, offset, share in zip(parts, places.sizes, offsets, weight, strict=True):
            # In half cells, as grid_sample counts from -1 to 1.
            half = offset.new_tensor([size[1] / 2, size[0] / 2])
            where = (places.centers * 2 - 1 + offset / half).flatten(0, 1)  # (B H, P, N, 2)
            maps = part.unflatten(2, size)
            for near, factor in zip(where.split(points, 1), share.split(points, 1), strict=True):
                samples = F.grid_sample(maps, near, align_corners=False)  # (B H, C, points, N)
                for sample, scale in zip(samples.unbind(2), factor.unbind(1), strict=True):
                    out = torch.addcmul(out, sample, scale[:, None])
        out = out.view(batch, dim, cells).transpose(1, 2)
        return self.proj(out) if project else out


class GridPixelDecoder(nn.Module):
    """The pixel decoder of Mask2Former as published, on dense maps.

    The coarse maps pass deformable encoder layers; the finest one adds the next coarser
    result, resized, and passes a 3x3 convolution. Computes in float32, also under autocast.

    Args:
        in_channels: channels of the maps, coarse to fine.
        dim: channels inside; a multiple of 32.
        mask_dim: channels of the mask features.
        num_layers: encoder layers.
        num_heads: attention heads.
        num_points: samples per map and head.
        hidden: channels inside the feed-forward networks.
        normalize: see
            :func:`~mmseg_arta.models.decode_heads.mask2former.positions.token_positions`.

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
        super().__init__()
        if len(in_channels) < 2:
            raise ValueError(
                f'GridPixelDecoder.in_channels must name at least two levels, '
                f'found {list(in_channels)}'
            )
        if dim % _GROUPS:
            raise ValueError(f'GridPixelDecoder.dim must be a multiple of {_GROUPS}, found {dim}')
        check_normalize(normalize)
        self.in_channels = tuple(in_channels)
        self.dim, self.normalize = dim, normalize
        coarse = self.in_channels[:-1]
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, dim, 1), nn.GroupNorm(_GROUPS, dim))
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
            nn.Conv2d(self.in_channels[-1], dim, 1, bias=False), nn.GroupNorm(_GROUPS, dim)
        )
        self.out_conv = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1, bias=False), nn.GroupNorm(_GROUPS, dim), nn.ReLU()
        )
        self.mask_proj = nn.Conv2d(dim, mask_dim, 1)
        for module in (*self.input_proj, self.lateral, self.out_conv, [self.mask_proj]):
            nn.init.xavier_uniform_(module[0].weight)
            if module[0].bias is not None:
                nn.init.zeros_(module[0].bias)

    def forward(self, tokens: MixedTokens) -> PixelDecoderOutput:
        """Decode a batch.

        Raises:
            ValueError: if levels or channels do not fit, or a level lacks tokens.
        """
        found = tuple(level.feats.shape[1] for level in tokens.levels)
        if found != self.in_channels:
            raise ValueError(
                f'GridPixelDecoder.in_channels is {self.in_channels}, but the backbone gives '
                f'levels with {found} channels (coarse to fine)'
            )
        with torch.autocast(tokens.levels[0].feats.device.type, enabled=False):
            maps = [_to_map(level) for level in tokens.levels]
            coarse = self._encode(maps[:-1], tokens.levels[:-1], tokens.canvas)
            above = F.interpolate(
                coarse[-1], maps[-1].shape[2:], mode='bilinear', align_corners=False
            )
            finest = self.out_conv(self.lateral(maps[-1]) + above)
            feats = to_rows(self.mask_proj(finest)).flatten(0, 1)
        memory = tuple(
            level.with_feats(to_rows(found).flatten(0, 1))
            for level, found in zip(tokens.levels[:-1], coarse, strict=True)
        )
        last = tokens.levels[-1].with_feats(to_rows(finest).flatten(0, 1))
        return PixelDecoderOutput(memory, (last,), feats, tokens.canvas, tokens.image_size)

    def _encode(
        self, maps: Sequence[Tensor], levels: Sequence[TokenSet], canvas: tuple[int, int]
    ) -> list[Tensor]:
        batch = maps[0].shape[0]
        x, position, centers = [], [], []
        for number, (proj, cells, level) in enumerate(
            zip(self.input_proj, maps, levels, strict=True)
        ):
            x.append(to_rows(proj(cells)))
            own = token_positions(level, self.dim, canvas, self.normalize)
            position.append(own.view(batch, -1, self.dim) + self.level_embed[number])
            rows, cols = level.grid
            ys = (torch.arange(rows, device=cells.device) + 0.5) / rows
            xs = (torch.arange(cols, device=cells.device) + 0.5) / cols
            yy, xx = torch.meshgrid(ys, xs, indexing='ij')
            centers.append(torch.stack((xx, yy), -1).flatten(0, 1))
        sizes = tuple(level.grid for level in levels)
        places = GridPlaces(torch.cat(centers), sizes)
        rows, where = torch.cat(x, 1), torch.cat(position, 1)
        for layer in self.layers:
            rows = layer(rows, where, places)
        parts = rows.split([height * width for height, width in sizes], 1)
        return [to_maps(part, size) for part, size in zip(parts, sizes, strict=True)]


def _to_map(level: TokenSet) -> Tensor:
    rows, cols = level.grid
    if any(length != rows * cols for length in level.lengths):
        raise ValueError(
            f'GridPixelDecoder needs all {rows * cols} tokens of every level, found '
            f'{min(level.lengths)} of {level.patch_size} px in an image: '
            f"use pixel_decoder='point' behind a sparse backbone"
        )
    rows_of_images = level.feats.float().unflatten(0, (level.batch_size, -1))
    return to_maps(rows_of_images, level.grid)
