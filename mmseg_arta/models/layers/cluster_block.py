"""Transformer block with cluster attention on tokens of mixed resolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops import cluster_attention
from ...structures import Neighborhood
from .basic import DropPath, Mlp, layer_scale

# Far below any logit, and a number of every floating type.
_FAR_BELOW = 6e4


class ClusterAttention(nn.Module):
    """Multi-head attention of each token to its nearest clusters (AFF 3.2, ARTA 3.2.2).

    Args:
        dim: channels.
        num_heads: heads; must divide ``dim``.
        blank_clamp: bound on the blank token's logit, None for no bound.
        blank_token: have a blank token (AFF 4.3).
        expanded_position: bias from distance, sine and cosine too, not from ``(dx, dy)`` alone
            (AFF 4.2).
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        blank_clamp: float | None = 5.0,
        blank_token: bool = True,
        expanded_position: bool = True,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.blank_clamp = blank_clamp
        self.blank_token = blank_token
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, dim * 2)
        self.pos_embed = nn.Linear(5 if expanded_position else 2, num_heads)
        if blank_token:
            self.blank_k = nn.Parameter(torch.randn(dim))
            self.blank_v = nn.Parameter(torch.randn(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, neighborhood: Neighborhood) -> Tensor:
        """``x (T, C)`` in cluster order to ``(T, C)``."""
        heads = self.num_heads
        q = self.q(x).unflatten(1, (heads, -1))
        kv = self.kv(x).unflatten(1, (heads, 2, -1))
        weight, bias = self.pos_embed.weight, self.pos_embed.bias
        if weight.shape[1] < 5:
            weight = F.pad(weight, (0, 5 - weight.shape[1]))
        if self.blank_token:
            blank_k, blank_v = self.blank_k.view(heads, -1), self.blank_v.view(heads, -1)
            out = cluster_attention(
                q, kv, weight, bias, blank_k, blank_v, neighborhood, self.blank_clamp
            )
        else:
            out = _without_blank(q, kv, weight, bias, neighborhood)
        return self.proj(out.flatten(1))


def _without_blank(
    q: Tensor, kv: Tensor, weight: Tensor, bias: Tensor, neighborhood: Neighborhood
) -> Tensor:
    """Cluster attention without a blank token: one more channel takes its weight to zero."""
    dim = q.shape[2]
    # The op divides by the root of the padded width.
    q = F.pad(q * ((dim + 1) / dim) ** 0.5, (0, 1), value=1.0)
    blank_k = q.new_zeros(q.shape[1:])
    blank_k[:, -1] = -_FAR_BELOW
    blank_v = torch.zeros_like(blank_k)
    kv = F.pad(kv, (0, 1))
    out = cluster_attention(q, kv, weight, bias, blank_k, blank_v, neighborhood, None)
    return out[..., :dim]


class ClusterBlock(nn.Module):
    """Pre-norm transformer block with :class:`ClusterAttention`.

    Args:
        dim: channels.
        num_heads: attention heads.
        mlp_ratio: hidden over input channels of the feed-forward network.
        drop_path: stochastic depth probability, drawn per image.
        layer_scale_init: initial layer scale, 0 for none.
        blank_clamp: bound on the blank token's logit.
        blank_token, expanded_position: see :class:`ClusterAttention`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        layer_scale_init: float = 0.0,
        blank_clamp: float | None = 5.0,
        blank_token: bool = True,
        expanded_position: bool = True,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = ClusterAttention(dim, num_heads, blank_clamp, blank_token, expanded_position)
        self.scale1 = layer_scale(dim, layer_scale_init)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.scale2 = layer_scale(dim, layer_scale_init)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, neighborhood: Neighborhood) -> Tensor:
        """``x (T, C)`` in cluster order to ``(T, C)``."""
        images = (neighborhood.batch, len(neighborhood.lengths))
        x = x + self.drop_path(self.scale1(self.attn(self.norm1(x), neighborhood)), *images)
        return x + self.drop_path(self.scale2(self.mlp(self.norm2(x))), *images)
