"""Decoders of class queries and of tokens, built on attention-to-mask (SegViT 3.2 and 3.5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers import SelfAttention, split_images


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
        q = q.split(1) if len(k) > 1 else [q]
        outs, masks_of_images = [], []
        for qs, ks, vs, area in zip(q, k, v, areas, strict=True):
            ks, vs = self._heads(ks), self._heads(vs)
            bias = None if area is None else area[:, None, None].to(qs.dtype)
            if masks or not ks.shape[2]:
                logits = (qs * qs.shape[3] ** -0.5) @ ks.transpose(2, 3)
                masks_of_images.append(logits.mean(1).transpose(1, 2).flatten(0, 1))
                logits = logits if bias is None else logits + bias
                out = logits.softmax(-1) @ vs
            else:
                bias = None if bias is None else bias.expand(-1, -1, qs.shape[2], -1)
                out = F.scaled_dot_product_attention(qs, ks, vs, attn_mask=bias)
            outs.append(out.transpose(1, 2).flatten(2))
        return self.proj(torch.cat(outs)), torch.cat(masks_of_images) if masks else None

    def _heads(self, rows: Tensor) -> Tensor:
        """``(B, N, C)`` to ``(B, heads, N, C / heads)``."""
        return rows.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class ATMLayer(nn.Module):
    """Post-norm decoder layer: query self-attention, attention-to-mask, feed-forward network.

    Args:
        dim: channels.
        num_heads: heads.
        self_attention: whether queries attend to each other; the second version's do not.
        hidden: hidden channels of the feed-forward network, 4 ``dim`` by default.
        dropout: in every residual branch and the feed-forward network.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        self_attention: bool = True,
        hidden: int | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        hidden = hidden or 4 * dim
        self.self_attn = SelfAttention(dim, num_heads) if self_attention else None
        self.norm1 = nn.LayerNorm(dim) if self_attention else None
        self.atm = AttentionToMask(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.norm3 = nn.LayerNorm(dim)
        self.act, self.dropout = nn.ReLU(), nn.Dropout(dropout)

    def forward(
        self,
        queries: Tensor,
        tokens: Tensor,
        lengths: tuple[int, ...],
        log_areas: Tensor | None = None,
        masks: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """As :meth:`AttentionToMask.forward`."""
        x = queries
        if self.self_attn is not None and self.norm1 is not None:
            x = self.norm1(x + self.dropout(self.self_attn(x)))
        attended, logits = self.atm(x, tokens, lengths, log_areas, masks)
        x = self.norm2(x + self.dropout(attended))
        out = self.fc2(self.dropout(self.act(self.fc1(x))))
        return self.norm3(x + self.dropout(out)), logits


class ATMDecoder(nn.Module):
    """Several :class:`ATMLayer`, one after the other.

    Args:
        num_layers: layers.
        dim, num_heads, self_attention, dropout: see :class:`ATMLayer`.
    """

    def __init__(
        self,
        num_layers: int,
        dim: int,
        num_heads: int,
        self_attention: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            ATMLayer(dim, num_heads, self_attention, dropout=dropout) for _ in range(num_layers)
        )

    def forward(
        self,
        queries: Tensor,
        tokens: Tensor,
        lengths: tuple[int, ...],
        log_areas: Tensor | None = None,
        every: bool = False,
    ) -> list[tuple[Tensor, Tensor]]:
        """Decode the queries.

        Args:
            queries: ``(B, Q, C)``.
            tokens: ``(A, C)`` packed tokens.
            lengths: tokens per image.
            log_areas: see :class:`AttentionToMask`.
            every: whether masks of every layer are wanted, not of the last alone.

        Returns:
            queries ``(B, Q, C)`` and mask logits ``(A, Q)`` of the layers wanted.
        """
        out = []
        for number, layer in enumerate(self.layers, 1):
            wanted = every or number == len(self.layers)
            queries, logits = layer(queries, tokens, lengths, log_areas, wanted)
            if logits is not None:
                out.append((queries, logits))
        return out


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
    """Several :class:`TokenDecoderLayer`, one after the other.

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
