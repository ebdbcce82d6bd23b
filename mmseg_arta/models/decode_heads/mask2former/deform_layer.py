"""Encoder layer of the point pixel decoder: deformable attention on irregular tokens."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ...layers import (
    PointDeformAttention,
    TokenPlaces,
    by_rows,
    init_deform_attention,
    linear_act,
    linear_add,
)

__all__ = [
    'DeformEncoderLayer',
    'PointDeformAttention',
    'TokenPlaces',
    'init_deform_attention',
]


class DeformEncoderLayer(nn.Module):
    """Post-norm transformer layer with deformable attention.

    Args:
        dim: channels.
        hidden: channels inside the feed-forward network.
        attn: the attention, called with queries, values, where they are, and whether to end with
            its linear layer ``proj``.
    """

    def __init__(self, dim: int, hidden: int, attn: nn.Module) -> None:
        super().__init__()
        self.attn = attn
        self.norm1 = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.norm2 = nn.LayerNorm(dim)
        for layer in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Tensor, position: Tensor, places: Any) -> Tensor:
        """``x`` and ``position (..., C)`` to ``(..., C)``; ``places`` is what ``attn`` takes."""
        return by_rows(self._finish, x, self.attn(x + position, x, places, project=False))

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = self.norm1(linear_add(attended, self.attn.proj, x))
        return self.norm2(linear_add(linear_act(x, self.fc1, 'relu'), self.fc2, x))
