"""Transformer block with cluster attention on tokens of mixed resolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...ops import cluster_attention
from ...structures import Neighborhood
from .drop_path import DropPath
from .layer_scale import layer_scale
from .mlp import Mlp


class ClusterAttention(nn.Module):
    """Multi-head attention of each token to its nearest clusters (AFF 3.2, ARTA 3.2.2).

    Args:
        dim: channels.
        num_heads: heads; must divide ``dim``.
        blank_clamp: bound on the blank token's logit, None for no bound.
    """

    def __init__(self, dim: int, num_heads: int, blank_clamp: float | None = 5.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.blank_clamp = blank_clamp
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, dim * 2)
        self.pos_embed = nn.Linear(5, num_heads)
        self.blank_k = nn.Parameter(torch.randn(dim))
        self.blank_v = nn.Parameter(torch.randn(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(
        self, x: Tensor, neighborhood: Neighborhood, geometry: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """``x (T, C)`` in cluster order to ``(T, C)``."""
        heads = self.num_heads
        out = cluster_attention(
            self.q(x).unflatten(1, (heads, -1)),
            self.kv(x).unflatten(1, (heads, 2, -1)),
            self.pos_embed.weight,
            self.pos_embed.bias,
            self.blank_k.view(heads, -1),
            self.blank_v.view(heads, -1),
            neighborhood,
            self.blank_clamp,
            geometry,
        )
        return self.proj(out.flatten(1))


class ClusterBlock(nn.Module):
    """Pre-norm transformer block with :class:`ClusterAttention`.

    Args:
        dim: channels.
        num_heads: attention heads.
        mlp_ratio: hidden over input channels of the feed-forward network.
        drop_path: stochastic depth probability, drawn per image.
        layer_scale_init: initial layer scale, 0 for none.
        blank_clamp: bound on the blank token's logit.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        layer_scale_init: float = 0.0,
        blank_clamp: float | None = 5.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = ClusterAttention(dim, num_heads, blank_clamp)
        self.scale1 = layer_scale(dim, layer_scale_init)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.scale2 = layer_scale(dim, layer_scale_init)
        self.drop_path = DropPath(drop_path)

    def forward(
        self, x: Tensor, neighborhood: Neighborhood, geometry: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """``x (T, C)`` in cluster order to ``(T, C)``."""
        batch, images = neighborhood.batch, len(neighborhood.lengths)
        attended = self.scale1(self.attn(self.norm1(x), neighborhood, geometry))
        x = x + self.drop_path(attended, batch, images)
        return x + self.drop_path(self.scale2(self.mlp(self.norm2(x))), batch, images)
