"""Rounds of a mixed-resolution encoder: projections, blocks, norms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch.utils.checkpoint as cp
from torch import Tensor, nn

from ...ops import relative_geometry, uses_reference
from ...structures import Neighborhood
from ..layers import (
    ClusterBlock,
    ConvNeXtV2Block,
    PointDeformBlock,
    SwinBlock,
    TokenPlaces,
    ViTBlock,
    sine_position,
)


class BlockSize(NamedTuple):
    """What the blocks of a round have in common; see :class:`_Round`."""

    dim: int
    num_heads: int
    mlp_ratio: float
    layer_scale_init: float
    num_levels: int


class _Round(nn.Module):
    """What all rounds have: an optional input norm and projection, blocks, an output norm.

    Args:
        in_dim: channels coming in, None for no projection.
        dim: channels of the blocks.
        num_heads: attention heads.
        drop_paths: stochastic depth probability of every block.
        mlp_ratio: hidden over input channels of the feed-forward networks.
        layer_scale_init: initial layer scale, 0 for none.
        with_cp: recompute blocks in the backward pass to save memory.
        num_levels: token levels that the round sees.
    """

    def __init__(
        self,
        in_dim: int | None,
        dim: int,
        num_heads: int,
        drop_paths: Sequence[float],
        mlp_ratio: float,
        layer_scale_init: float,
        with_cp: bool = False,
        num_levels: int = 1,
    ) -> None:
        super().__init__()
        size = BlockSize(dim, num_heads, mlp_ratio, layer_scale_init, num_levels)
        self.input_norm = nn.Identity() if in_dim is None else nn.LayerNorm(in_dim)
        self.input_proj = nn.Identity() if in_dim is None else nn.Linear(in_dim, dim)
        self.blocks = nn.ModuleList(
            self._block(rate, index, size) for index, rate in enumerate(drop_paths)
        )
        self.norm = nn.LayerNorm(dim)
        self.with_cp = with_cp

    def _block(self, drop_path: float, index: int, size: BlockSize) -> nn.Module:
        raise NotImplementedError

    def _run(self, x: Tensor, *args: object) -> Tensor:
        for block in self.blocks:
            if self.with_cp and self.training and x.requires_grad:
                x = cp.checkpoint(block, x, *args, use_reentrant=False)
            else:
                x = block(x, *args)
        return self.norm(x)

    def skip(self, x: Tensor) -> Tensor:
        """``x (T, C_in)`` to ``(T, C)`` without the blocks, for tokens that missed the round."""
        return self.norm(self.input_proj(self.input_norm(x)))


class GridRound(_Round):
    """A round on the dense 32 px grid: pre-allocation and last refinement round."""

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """``x (B, N, C_in)`` in raster order of ``grid`` to ``(B, N, C)``."""
        return self._run(self.input_proj(self.input_norm(x)), grid)


class ViTRound(GridRound):
    """Global attention."""

    def _block(self, drop_path: float, index: int, size: BlockSize) -> nn.Module:
        return ViTBlock(size.dim, size.num_heads, size.mlp_ratio, drop_path, size.layer_scale_init)


class SwinRound(GridRound):
    """Attention in windows, shifted in every second block (ARTA table 5)."""

    def _block(self, drop_path: float, index: int, size: BlockSize) -> nn.Module:
        return SwinBlock(
            size.dim,
            size.num_heads,
            size.mlp_ratio,
            drop_path,
            size.layer_scale_init,
            shifted=index % 2 == 1,
        )


class ConvNeXtV2Round(GridRound):
    """Depth-wise convolutions and global response normalisation (ARTA table 5)."""

    def _block(self, drop_path: float, index: int, size: BlockSize) -> nn.Module:
        # The block's own ratio, which is part of its design.
        return ConvNeXtV2Block(size.dim, drop_path=drop_path)


class ClusterRound(_Round):
    """Cluster attention on all tokens present (ARTA 3.2.2 and 3.4)."""

    def _block(self, drop_path: float, index: int, size: BlockSize) -> nn.Module:
        return ClusterBlock(
            size.dim, size.num_heads, size.mlp_ratio, drop_path, size.layer_scale_init
        )

    def forward(self, x: Tensor, neighborhood: Neighborhood) -> Tensor:
        """``x (T, C_in)`` in token order to ``(T, C)`` in token order."""
        x = neighborhood.to_clusters(self.input_proj(self.input_norm(x)))
        # Only the reference takes the pairs' geometry from outside.
        geometry = (
            relative_geometry(neighborhood, x.dtype)
            if uses_reference('cluster_attention', x)
            else None
        )
        return neighborhood.to_tokens(self._run(x, neighborhood, geometry))


class DeformRound(_Round):
    """Multi-scale deformable attention of all tokens to all levels (ARTA table 5)."""

    def _block(self, drop_path: float, index: int, size: BlockSize) -> nn.Module:
        return PointDeformBlock(
            size.dim,
            size.num_heads,
            size.num_levels,
            size.mlp_ratio,
            drop_path,
            size.layer_scale_init,
        )

    def forward(self, x: Tensor, places: TokenPlaces) -> Tensor:
        """``x (T, C_in)``, levels laid end to end, to ``(T, C)``."""
        x = self.input_proj(self.input_norm(x))
        rows, columns = places.nearest.shape[2:4]
        position = sine_position(places.centers, x.shape[1], (float(columns), float(rows)))
        return self._run(x, places, position.to(x.dtype))


#: Rounds on the 32 px tokens alone, by the name of their blocks.
COARSE_ROUNDS: Mapping[str, type[_Round]] = {
    'vit': ViTRound,
    'swin': SwinRound,
    'convnextv2': ConvNeXtV2Round,
    'cluster': ClusterRound,
}
#: Rounds on tokens of mixed resolution.
MIXED_ROUNDS: Mapping[str, type[_Round]] = {'cluster': ClusterRound, 'msdeform': DeformRound}
