"""Rounds of a mixed-resolution encoder: an input projection, blocks, a norm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.utils.checkpoint as cp
from torch import Tensor, nn

from ...structures import Neighborhood, TokenSet
from ..layers import (
    ClusterBlock,
    ConvNeXtV2Block,
    EncoderLayout,
    GlobalBlock,
    PointDeformBlock,
    SwinBlock,
    TokenPlaces,
    ViTBlock,
    sine_position,
)


class BlockShape(NamedTuple):
    """What all blocks of a round have in common.

    Attributes:
        dim: channels.
        num_heads: attention heads.
        mlp_ratio: hidden over input channels of the feed-forward networks.
        layer_scale_init: initial layer scale, 0 for none.
        num_levels: token levels that the round sees.
    """

    dim: int
    num_heads: int
    mlp_ratio: float
    layer_scale_init: float
    num_levels: int


#: Makes a block from the round's shape, its stochastic depth probability and its index.
MakeBlock = Callable[[BlockShape, float, int], nn.Module]


class EncoderRound(nn.Module):
    """Norm and projection of what comes in, blocks, a norm.

    Args:
        in_dim: channels that come in, None for no projection.
        shape: of the blocks.
        make_block: makes one of them.
        drop_paths: stochastic depth probability of every block.
        with_cp: recompute blocks in the backward pass to save memory.
    """

    def __init__(
        self,
        in_dim: int | None,
        shape: BlockShape,
        make_block: MakeBlock,
        drop_paths: Sequence[float],
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.input_norm = nn.Identity() if in_dim is None else nn.LayerNorm(in_dim)
        self.input_proj = nn.Identity() if in_dim is None else nn.Linear(in_dim, shape.dim)
        self.blocks = nn.ModuleList(
            make_block(shape, rate, index) for index, rate in enumerate(drop_paths)
        )
        self.norm = nn.LayerNorm(shape.dim)
        self.with_cp = with_cp

    def forward(self, levels: Sequence[TokenSet], layout: EncoderLayout) -> list[TokenSet]:
        """All tokens of ``levels``, coarse to fine, after they attended to each other."""
        x = self.input_proj(self.input_norm(torch.cat([level.feats for level in levels])))
        parts = self.mix(x, levels, layout).split([len(level) for level in levels])
        return [level.with_feats(part) for level, part in zip(levels, parts, strict=True)]

    def mix(self, x: Tensor, levels: Sequence[TokenSet], layout: EncoderLayout) -> Tensor:
        """Blocks and norm on ``x (T, C)``, the projected features of ``levels`` end to end."""
        raise NotImplementedError

    def run_blocks(self, x: Tensor, *where: object) -> Tensor:
        """All blocks and the norm; ``where`` goes to every block: grid, neighbourhood or places."""
        for block in self.blocks:
            if self.with_cp and self.training and x.requires_grad:
                x = cp.checkpoint(block, x, *where, use_reentrant=False)
            else:
                x = block(x, *where)
        return self.norm(x)

    def without_blocks(self, x: Tensor) -> Tensor:
        """``x (T, C_in)`` to ``(T, C)``, for tokens that were not there when the blocks ran."""
        return self.norm(self.input_proj(self.input_norm(x)))


class GridRound(EncoderRound):
    """A round on the dense 32 px grid (ARTA 3.2.1): pre-allocation and last refinement round."""

    def mix(self, x: Tensor, levels: Sequence[TokenSet], layout: EncoderLayout) -> Tensor:
        (level,) = levels
        x = x.unflatten(0, (level.batch_size, -1))
        return self.run_blocks(x, level.grid).flatten(0, 1)


class ClusterRound(EncoderRound):
    """Cluster attention on all tokens present (ARTA 3.2.2 and 3.4).

    Levels are clustered together, so coarse and fine tokens attend to each other.
    """

    def mix(self, x: Tensor, levels: Sequence[TokenSet], layout: EncoderLayout) -> Tensor:
        neighborhood: Neighborhood = layout.clustering.neighborhood(levels)
        x = self.run_blocks(neighborhood.to_clusters(x), neighborhood)
        return neighborhood.to_tokens(x)


class GlobalRound(EncoderRound):
    """Global attention of all tokens of an image, for few tokens (ARTA table 5)."""

    def mix(self, x: Tensor, levels: Sequence[TokenSet], layout: EncoderLayout) -> Tensor:
        batch = torch.cat([level.batch_index() for level in levels])
        # Levels lie end to end; attention takes one image after the other.
        batch, order = torch.sort(batch, stable=True)
        lengths = tuple(map(sum, zip(*(level.lengths for level in levels), strict=True)))
        rows = self.run_blocks(x.index_select(0, order), batch, lengths)
        return torch.empty_like(rows).index_copy(0, order, rows)


class DeformRound(EncoderRound):
    """Multi-scale deformable attention of all tokens to all levels (ARTA table 5)."""

    def mix(self, x: Tensor, levels: Sequence[TokenSet], layout: EncoderLayout) -> Tensor:
        places: TokenPlaces = layout.samples(levels)
        rows, columns = places.nearest.shape[2:4]
        position = sine_position(places.centers, x.shape[1], (float(columns), float(rows)))
        return self.run_blocks(x, places, position.to(x.dtype))


def _vit(shape: BlockShape, drop_path: float, index: int) -> nn.Module:
    return ViTBlock(shape.dim, shape.num_heads, shape.mlp_ratio, drop_path, shape.layer_scale_init)


def _swin(shape: BlockShape, drop_path: float, index: int) -> nn.Module:
    common = (shape.dim, shape.num_heads, shape.mlp_ratio, drop_path, shape.layer_scale_init)
    return SwinBlock(*common, shifted=index % 2 == 1)


def _convnext(shape: BlockShape, drop_path: float, index: int) -> nn.Module:
    # The block's own ratio, which is part of its design.
    return ConvNeXtV2Block(shape.dim, drop_path=drop_path)


def _cluster(shape: BlockShape, drop_path: float, index: int) -> nn.Module:
    common = (shape.dim, shape.num_heads, shape.mlp_ratio, drop_path, shape.layer_scale_init)
    return ClusterBlock(*common)


def _global(shape: BlockShape, drop_path: float, index: int) -> nn.Module:
    common = (shape.dim, shape.num_heads, shape.mlp_ratio, drop_path, shape.layer_scale_init)
    return GlobalBlock(*common)


def _deform(shape: BlockShape, drop_path: float, index: int) -> nn.Module:
    return PointDeformBlock(
        shape.dim,
        shape.num_heads,
        shape.num_levels,
        shape.mlp_ratio,
        drop_path,
        shape.layer_scale_init,
    )


Kind = tuple[type[EncoderRound], MakeBlock]
#: Rounds on the 32 px tokens alone, by the name of their blocks (ARTA table 5).
COARSE_ROUNDS: Mapping[str, Kind] = {
    'vit': (GridRound, _vit),
    'swin': (GridRound, _swin),
    'convnextv2': (GridRound, _convnext),
    'cluster': (ClusterRound, _cluster),
}
#: Rounds on tokens of mixed resolution (ARTA table 5).
MIXED_ROUNDS: Mapping[str, Kind] = {
    'cluster': (ClusterRound, _cluster),
    'msdeform': (DeformRound, _deform),
    'vit': (GlobalRound, _global),
}
