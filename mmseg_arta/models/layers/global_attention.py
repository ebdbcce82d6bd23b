"""Global attention within an image: on a dense grid of tokens, and on packed tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .basic import ConvMlp, DropPath, Mlp, layer_scale


class SelfAttention(nn.Module):
    """Multi-head self-attention.

    Args:
        dim: channels.
        num_heads: heads; must divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, lengths: tuple[int, ...] | None = None) -> Tensor:
        """``x (B, N, C)``, or ``(T, C)`` packed with ``lengths`` rows per image, to the same."""
        if lengths is not None:
            return self.proj(packed_self_attention(self.qkv(x), self.num_heads, lengths))
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        return self.proj(out.transpose(1, 2).flatten(2))


class ViTBlock(nn.Module):
    """Pre-norm block of the coarsest rounds (ARTA 3.2.1 and 3.4).

    Its feed-forward network carries a 3x3 depth-wise convolution on the token grid.

    Args:
        dim: channels.
        num_heads: attention heads.
        mlp_ratio: hidden over input channels of the feed-forward network.
        drop_path: stochastic depth probability.
        layer_scale_init: initial layer scale, 0 for none.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        layer_scale_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = SelfAttention(dim, num_heads)
        self.scale1 = layer_scale(dim, layer_scale_init)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = ConvMlp(dim, int(dim * mlp_ratio))
        self.scale2 = layer_scale(dim, layer_scale_init)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """``x (B, N, C)`` in raster order of ``grid`` (rows, columns)."""
        x = x + self.drop_path(self.scale1(self.attn(self.norm1(x))))
        return x + self.drop_path(self.scale2(self.mlp(self.norm2(x), grid)))


def split_images(rows: Tensor, lengths: tuple[int, ...]) -> list[Tensor]:
    """Groups of images of equal length, for batched products.

    Args:
        rows: ``(T, ...)`` packed over ``B`` images.
        lengths: rows per image.

    Returns:
        one ``(B, L, ...)`` if all lengths are equal, else ``B`` of ``(1, L_b, ...)``.
    """
    if len(set(lengths)) == 1:
        return [rows.view(len(lengths), lengths[0], *rows.shape[1:])]
    return [part[None] for part in rows.split(lengths)]


def packed_self_attention(qkv: Tensor, num_heads: int, lengths: tuple[int, ...]) -> Tensor:
    """Softmax attention of every token to those of its image.

    Nothing is computed for tokens that are not there.

    Args:
        qkv: ``(T, 3 C)``: queries, keys and values.
        num_heads: heads; must divide ``C``.
        lengths: tokens per image; an image may have none.

    Returns:
        ``(T, C)``.
    """
    outs = []
    dim = qkv.shape[1] // 3
    for part in split_images(qkv, lengths):
        if not part.shape[1]:
            # Not every kernel takes empty sequences.
            outs.append(part.flatten(0, 1)[:, :dim])
            continue
        # (b, L, 3C) -> (3, b, heads, L, C / heads)
        q, k, v = part.unflatten(2, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v)
        outs.append(out.transpose(1, 2).flatten(2).flatten(0, 1))
    return outs[0] if len(outs) == 1 else torch.cat(outs)


class GlobalBlock(nn.Module):
    """Pre-norm ViT block on tokens without a grid (ARTA table 5).

    Its cost grows with the square of the tokens.

    Args:
        dim: channels.
        num_heads: attention heads.
        mlp_ratio: hidden over input channels of the feed-forward network.
        drop_path: stochastic depth probability, drawn per image.
        layer_scale_init: initial layer scale, 0 for none.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        layer_scale_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = SelfAttention(dim, num_heads)
        self.scale1 = layer_scale(dim, layer_scale_init)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.scale2 = layer_scale(dim, layer_scale_init)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, batch: Tensor, lengths: tuple[int, ...]) -> Tensor:
        """``x (T, C)`` to the same; ``batch (T,)`` image of every row, ascending."""
        images = (batch, len(lengths))
        x = x + self.drop_path(self.scale1(self.attn(self.norm1(x), lengths)), *images)
        return x + self.drop_path(self.scale2(self.mlp(self.norm2(x))), *images)
