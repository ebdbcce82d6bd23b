"""Block of a plain Vision Transformer over packed tokens."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .basic import DropPath
from .global_attention import packed_self_attention


class PackedSelfAttention(nn.Module):
    """Self-attention within every image of a packed batch.

    Args:
        dim: channels.
        num_heads: heads; must divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        # Weights only: its own forward would compute an attention matrix.
        self.attn = nn.MultiheadAttention(dim, num_heads)

    def forward(self, x: Tensor, lengths: tuple[int, ...]) -> Tensor:
        """``x (T, C)`` packed tokens, ``lengths`` tokens per image; to ``(T, C)``."""
        qkv = F.linear(x, self.attn.in_proj_weight, self.attn.in_proj_bias)
        mixed = packed_self_attention(qkv, self.attn.num_heads, lengths)
        return F.linear(mixed, self.attn.out_proj.weight, self.attn.out_proj.bias)

    def from_queries(self, queries: Tensor, x: Tensor) -> Tensor:
        """Attend from ``queries (B, M, C)`` to ``x (B, N, C)``; to ``(B, M, C)``."""
        dim, heads = x.shape[2], self.attn.num_heads
        weight_q, weight_kv = self.attn.in_proj_weight.tensor_split([dim])
        bias_q, bias_kv = self.attn.in_proj_bias.tensor_split([dim])
        q = F.linear(queries, weight_q, bias_q)
        k, v = F.linear(x, weight_kv, bias_kv).chunk(2, -1)
        q, k, v = (rows.unflatten(2, (heads, -1)).transpose(1, 2) for rows in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return F.linear(mixed, self.attn.out_proj.weight, self.attn.out_proj.bias)


class FeedForward(nn.Module):
    """Linear - GELU - Linear, named as in the stock ``VisionTransformer``.

    Args:
        dim: channels.
        hidden: hidden channels.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        fc1 = nn.Sequential(nn.Linear(dim, hidden), nn.GELU())
        self.layers = nn.Sequential(fc1, nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class PackedViTBlock(nn.Module):
    """Pre-norm block: self-attention within an image, then a feed-forward network.

    Modules are named as in the stock ``VisionTransformer``, so its checkpoints load as they are.

    Args:
        dim: channels.
        num_heads: attention heads.
        mlp_ratio: hidden over input channels of the feed-forward network.
        drop_path: stochastic depth probability of the feed-forward branch, per image. As in the
            stock backbone, attention has none.
        norm_eps: epsilon of the layer norms.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = PackedSelfAttention(dim, num_heads)
        self.ln2 = nn.LayerNorm(dim, eps=norm_eps)
        self.ffn = FeedForward(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, lengths: tuple[int, ...], batch: Tensor | None = None) -> Tensor:
        """Mix the tokens of every image.

        Args:
            x: ``(T, C)`` packed tokens.
            lengths: tokens per image.
            batch: ``(T,)`` image of every token; needed in training with stochastic depth.

        Returns:
            ``(T, C)``.
        """
        x = x + self.attn(self.ln1(x), lengths)
        return x + self.drop_path(self.ffn(self.ln2(x)), batch, len(lengths))

    def downsample(self, x: Tensor, kept: Tensor) -> Tensor:
        """Attend from a subset of the tokens to all, and go on with it (SegViT 3.5).

        Args:
            x: ``(B, N, C)`` tokens, equally many in every image.
            kept: ``(M,)`` int64 positions within an image of the tokens that go on.

        Returns:
            ``(B, M, C)``.
        """
        normed = self.ln1(x)
        queries = normed.index_select(1, kept)
        x = x.index_select(1, kept) + self.attn.from_queries(queries, normed)
        return x + self.drop_path(self.ffn(self.ln2(x)))
