"""Stage of AutoFocusFormer: cluster attention on the tokens that are left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch.utils.checkpoint as cp
from torch import Tensor, nn

from ...ops import (
    build_neighborhood,
    published_neighborhood,
)
from ...structures import Neighborhood, TokenSet
from ..layers import ClusterBlock


class AFFStage(nn.Module):
    """Blocks of one stage and the norm of what it hands out (AFF 3).

    The norm stands apart from the path to the next stage.

    Args:
        blocks: the stage's blocks.
        dim: channels.
        cluster_size: tokens per cluster.
        neighborhood_size: tokens that a token attends to; the nearest
            ``round(neighborhood_size / cluster_size)`` clusters, or all of them if the image
            has no more tokens than this.
        with_norm: have the norm, for stages whose tokens are handed out.
        with_cp: recompute blocks in the backward pass to save memory.
        tie_order: see :class:`~mmseg_arta.models.AutoFocusFormer`.
    """

    def __init__(
        self,
        blocks: Sequence[ClusterBlock],
        dim: int,
        cluster_size: int,
        neighborhood_size: int,
        with_norm: bool = True,
        with_cp: bool = False,
        tie_order: str = 'raster',
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(dim) if with_norm else None
        self.cluster_size, self.neighborhood_size = cluster_size, neighborhood_size
        self.with_cp, self.tie_order = with_cp, tie_order

    def neighborhood(self, tokens: TokenSet, grid: tuple[int, int]) -> Neighborhood:
        """Clusters of the tokens, and everyone's nearest ones.

        Args:
            tokens: equally many in every image.
            grid: ``(rows, columns)`` of the canvas in units of 4 px.
        """
        count, size = tokens.lengths[0], self.cluster_size
        near = max(round(self.neighborhood_size / size), 1)
        if count <= self.neighborhood_size:
            near = -(-count // size)
        where = (
            tokens.xy,
            tokens.batch_index(),
            tokens.offsets.diff(),
            tokens.lengths,
            grid,
            size,
            near,
        )
        if self.tie_order == 'published':
            return published_neighborhood(*where)
        return build_neighborhood(*where)

    def forward(self, tokens: TokenSet, neighborhood: Neighborhood) -> tuple[Tensor, TokenSet]:
        """Features ``(T, C)`` in cluster order, and the tokens with their normed features.

        With ``tie_order='published'`` those too are in cluster order.
        """
        x = neighborhood.to_clusters(tokens.feats)
        for block in self.blocks:
            if self.with_cp and self.training and x.requires_grad:
                x = cp.checkpoint(block, x, neighborhood, use_reentrant=False)
            else:
                x = block(x, neighborhood)
        out = x if self.norm is None else self.norm(x)
        if self.tie_order == 'published':
            return x, replace(tokens, feats=out, xy=neighborhood.xy)
        return x, tokens.with_feats(neighborhood.to_tokens(out))
