"""Plain transformer decoder of tokens."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ...layers import SelfAttention


class CrossAttention(nn.Module):
    """Multi-head attention from one set of tokens to another.

    Args:
        dim: channels.
        num_heads: heads; must divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """``x (B, N, C)`` attends to ``memory (B, M, C)``."""
        q = self.q(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        k, v = self.kv(memory).unflatten(2, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).flatten(2))


class TokenDecoderLayer(nn.Module):
    """Post-norm layer: self-attention, cross-attention, feed-forward network with ReLU.

    Args:
        dim: channels.
        num_heads: heads.
        dropout: in every residual branch and the feed-forward network.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.self_attn = SelfAttention(dim, num_heads)
        self.cross_attn = CrossAttention(dim, num_heads)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """``x (B, N, C)``, ``memory (B, M, C)``."""
        x = self.norm1(x + self.dropout(self.self_attn(x)))
        x = self.norm2(x + self.dropout(self.cross_attn(x, memory)))
        out = self.fc2(self.dropout(F.relu(self.fc1(x))))
        return self.norm3(x + self.dropout(out))


class TokenDecoder(nn.Module):
    """Layers in turn.

    Args:
        num_layers: layers.
        dim, num_heads, dropout: see :class:`TokenDecoderLayer`.
    """

    def __init__(self, num_layers: int, dim: int, num_heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TokenDecoderLayer(dim, num_heads, dropout) for _ in range(num_layers)
        )

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """``x (B, N, C)``, ``memory (B, M, C)``."""
        for layer in self.layers:
            x = layer(x, memory)
        return x
