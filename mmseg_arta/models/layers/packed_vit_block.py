"""Encoder block of a plain Vision Transformer on packed tokens."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .basic import DropPath
from .packed_attention import packed_self_attention


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
        hidden = int(dim * mlp_ratio)
        self.num_heads = num_heads
        self.ln1 = nn.LayerNorm(dim, eps=norm_eps)
        # Weights only: its own forward would compute an attention matrix.
        self.attn = nn.ModuleDict({'attn': nn.MultiheadAttention(dim, num_heads)})
        self.ln2 = nn.LayerNorm(dim, eps=norm_eps)
        fc1 = nn.Sequential(nn.Linear(dim, hidden), nn.GELU())
        self.ffn = nn.ModuleDict({'layers': nn.Sequential(fc1, nn.Linear(hidden, dim))})
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, lengths: tuple[int, ...], batch: Tensor | None = None) -> Tensor:
        """Args:
        x: ``(T, C)`` packed tokens.
        lengths: tokens per image.
        batch: ``(T,)`` image of every token; needed in training with stochastic depth.
        """
        attn = self.attn['attn']
        qkv = F.linear(self.ln1(x), attn.in_proj_weight, attn.in_proj_bias)
        mixed = packed_self_attention(qkv, self.num_heads, lengths)
        x = x + F.linear(mixed, attn.out_proj.weight, attn.out_proj.bias)
        return x + self.drop_path(self.ffn['layers'](self.ln2(x)), batch, len(lengths))

    def pooled(self, x: Tensor, kept: Tensor, grid: tuple[int, int]) -> Tensor:
        """Attend from a subset of the tokens to all of them (SegViT's query-based down-sampling).

        Args:
            x: ``(T, C)`` packed tokens of images of ``grid`` rows and columns each.
            kept: positions within an image of the tokens that ask.
            grid: rows and columns.

        Returns:
            ``(B * len(kept), C)``.
        """
        attn = self.attn['attn']
        normed = self.ln1(x)
        tokens = grid[0] * grid[1]

        def of_images(rows: Tensor) -> Tensor:
            return rows.view(-1, tokens, rows.shape[1])

        asked = of_images(x).index_select(1, kept)
        wq, wkv = attn.in_proj_weight.tensor_split([x.shape[1]])
        bq, bkv = attn.in_proj_bias.tensor_split([x.shape[1]])
        q = F.linear(of_images(normed).index_select(1, kept), wq, bq)
        k, v = F.linear(of_images(normed), wkv, bkv).chunk(2, -1)
        q, k, v = (t.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for t in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out = asked + F.linear(mixed, attn.out_proj.weight, attn.out_proj.bias)
        # Images are the first dimension here, so stochastic depth needs no index of rows.
        return (out + self.drop_path(self.ffn['layers'](self.ln2(out)))).flatten(0, 1)
