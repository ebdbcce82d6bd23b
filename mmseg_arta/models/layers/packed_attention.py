"""Attention over packed sequences: nothing is computed for tokens that are not there."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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
