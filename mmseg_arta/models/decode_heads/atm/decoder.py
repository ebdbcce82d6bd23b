"""Decoder of class queries built on attention-to-mask (SegViT 3.2)."""

from __future__ import annotations

from torch import Tensor, nn

from ...layers import SelfAttention
from .attention import AttentionToMask


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
        found, logits = self.atm(x, tokens, lengths, log_areas, masks)
        x = self.norm2(x + self.dropout(found))
        out = self.fc2(self.dropout(self.act(self.fc1(x))))
        return self.norm3(x + self.dropout(out)), logits


class ATMDecoder(nn.Module):
    """Layers in turn.

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
