"""Layer of the masked-attention transformer decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....structures import at_least_one
from ...layers import multi_head_attention


@dataclass(frozen=True)
class Memory:
    """Tokens that queries attend to: packed features and how to lay them out per image.

    Attributes:
        value: ``(T, C)`` features, packed.
        key: ``(T, C)`` features with positions, packed.
        slots: ``(B, N)`` int64 packed row of every slot, ``N`` the largest count of the batch.
        valid: ``(B, N)`` bool, which slots hold a token.
    """

    value: Tensor
    key: Tensor
    slots: Tensor
    valid: Tensor

    def padded(self, rows: Tensor) -> Tensor:
        """Packed ``(T, C)`` rows as ``(B, N, C)``, zero where there is no token."""
        rows = at_least_one(rows)
        if not torch.compiler.is_compiling() and self.slots.numel() == len(rows):
            # Equally many everywhere: they lie as they should.
            return rows.view(*self.slots.shape, -1)
        return rows[self.slots] * self.valid[..., None]


class QueryAttention(nn.Module):
    """Multi-head attention of queries to each other or to packed tokens.

    Args:
        dim: channels.
        num_heads: heads; must divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)
        for layer in (self.in_proj, self.out_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def _project(self, x: Tensor, part: int) -> Tensor:
        weight = self.in_proj.weight.chunk(3)[part]
        return F.linear(x, weight, self.in_proj.bias.chunk(3)[part])

    def forward(
        self, query: Tensor, memory: Memory | None, x: Tensor, allowed: Tensor | None = None
    ) -> Tensor:
        """Args:
            query: ``(B, Q, C)`` queries with positions.
            memory: tokens to attend to; None for the queries themselves.
            x: ``(B, Q, C)`` queries without positions, the values if there is no memory.
            allowed: ``(B, Q, N)`` bool, which slots a query may look at.

        Returns:
            ``(B, Q, C)``.
        """
        if memory is None:
            key, value = self._project(query, 1), self._project(x, 2)
        else:
            key = memory.padded(self._project(memory.key, 1))
            value = memory.padded(self._project(memory.value, 2))
        heads = [
            rows.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for rows in (self._project(query, 0), key, value)
        ]
        mask = None if allowed is None else allowed[:, None]
        out = multi_head_attention(*heads, mask)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class QueryLayer(nn.Module):
    """Masked cross-attention, self-attention, feed-forward network; all post-norm.

    Args:
        dim: channels.
        num_heads: heads.
        hidden: channels inside the feed-forward network.
    """

    def __init__(self, dim: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.cross_attn = QueryAttention(dim, num_heads)
        self.cross_attn_norm = nn.LayerNorm(dim)
        self.self_attn = QueryAttention(dim, num_heads)
        self.self_attn_norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.ffn_norm = nn.LayerNorm(dim)
        for layer in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Tensor, position: Tensor, memory: Memory, allowed: Tensor) -> Tensor:
        """``x`` and ``position (B, Q, C)``, ``allowed (B, Q, N)`` to ``(B, Q, C)``."""
        x = self.cross_attn_norm(x + self.cross_attn(x + position, memory, x, allowed))
        x = self.self_attn_norm(x + self.self_attn(x + position, None, x))
        return self.ffn_norm(x + self.fc2(F.relu(self.fc1(x), inplace=True)))
