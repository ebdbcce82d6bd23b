"""Attention-to-mask: the similarity of class queries and tokens is the mask (SegViT 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...layers import multi_head_attention, split_images


class AttentionToMask(nn.Module):
    """Cross-attention whose logits before the softmax, averaged over heads, are mask logits.

    Args:
        dim: channels of queries and tokens.
        num_heads: heads; must divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f'AttentionToMask: {num_heads} heads do not divide {dim} channels')
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self,
        queries: Tensor,
        tokens: Tensor,
        lengths: tuple[int, ...],
        log_areas: Tensor | None = None,
        masks: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from the queries of every image to its tokens.

        Args:
            queries: ``(B, Q, C)``.
            tokens: ``(A, C)`` packed.
            lengths: tokens per image; an image without any gives its queries nothing.
            log_areas: ``(A,)`` logarithm of the patches a token stands for. Added to the logits
                of the softmax, it gives what as many copies of the token would give.
            masks: whether mask logits are wanted.

        Returns:
            ``(B, Q, C)``, and mask logits ``(A, Q)`` or ``None``.
        """
        q = self._heads(self.q(queries))
        k, v = split_images(self.k(tokens), lengths), split_images(self.v(tokens), lengths)
        areas = [None] * len(k) if log_areas is None else split_images(log_areas, lengths)
        asked = q.split(1) if len(k) > 1 else [q]
        outs, found = [], []
        for qs, ks, vs, area in zip(asked, k, v, areas, strict=True):
            ks, vs = self._heads(ks), self._heads(vs)
            bias = None if area is None else area[:, None, None].to(qs.dtype)
            if masks or not ks.shape[2]:
                logits = (qs * qs.shape[3] ** -0.5) @ ks.transpose(2, 3)
                found.append(logits.mean(1).transpose(1, 2).flatten(0, 1))
                logits = logits if bias is None else logits + bias
                out = logits.softmax(-1) @ vs
            else:
                bias = None if bias is None else bias.expand(-1, -1, qs.shape[2], -1)
                out = multi_head_attention(qs, ks, vs, bias)
            outs.append(out.transpose(1, 2).flatten(2))
        return self.proj(torch.cat(outs)), torch.cat(found) if masks else None

    def _heads(self, rows: Tensor) -> Tensor:
        """``(B, N, C)`` to ``(B, heads, N, C / heads)``."""
        return rows.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
