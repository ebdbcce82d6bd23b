"""Rounds of a mixed-resolution encoder: projections, blocks, norms."""

from __future__ import annotations

from collections.abc import Sequence

import torch.utils.checkpoint as cp
from torch import Tensor, nn

from ...ops import uses_reference
from ...ops.reference.cluster_attention import relative_geometry
from ...structures import Neighborhood
from ..layers import ClusterBlock, ViTBlock


class _Round(nn.Module):
    """What all rounds have: an optional input norm and projection, blocks, an output norm.

    Args:
        in_dim: channels coming in, None for no projection.
        dim: channels of the blocks.
        blocks: the round's blocks.
        with_cp: recompute blocks in the backward pass to save memory.
    """

    def __init__(
        self, in_dim: int | None, dim: int, blocks: Sequence[nn.Module], with_cp: bool
    ) -> None:
        super().__init__()
        self.input_norm = nn.Identity() if in_dim is None else nn.LayerNorm(in_dim)
        self.input_proj = nn.Identity() if in_dim is None else nn.Linear(in_dim, dim)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(dim)
        self.with_cp = with_cp

    def _run(self, x: Tensor, *args: object) -> Tensor:
        for block in self.blocks:
            if self.with_cp and self.training and x.requires_grad:
                x = cp.checkpoint(block, x, *args, use_reentrant=False)
            else:
                x = block(x, *args)
        return self.norm(x)


class ViTRound(_Round):
    """Global attention on the dense 32 px grid: pre-allocation and last refinement round."""

    def __init__(
        self,
        in_dim: int | None,
        dim: int,
        num_heads: int,
        drop_paths: Sequence[float],
        mlp_ratio: float,
        layer_scale_init: float,
        with_cp: bool = False,
    ) -> None:
        super().__init__(
            in_dim,
            dim,
            [ViTBlock(dim, num_heads, mlp_ratio, rate, layer_scale_init) for rate in drop_paths],
            with_cp,
        )

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """``x (B, N, C_in)`` in raster order of ``grid`` to ``(B, N, C)``."""
        return self._run(self.input_proj(self.input_norm(x)), grid)


class ClusterRound(_Round):
    """Cluster attention on all tokens present (ARTA 3.2.2 and 3.4)."""

    def __init__(
        self,
        in_dim: int,
        dim: int,
        num_heads: int,
        drop_paths: Sequence[float],
        mlp_ratio: float,
        layer_scale_init: float,
        with_cp: bool = False,
    ) -> None:
        super().__init__(
            in_dim,
            dim,
            [
                ClusterBlock(dim, num_heads, mlp_ratio, rate, layer_scale_init)
                for rate in drop_paths
            ],
            with_cp,
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
