"""Transformer block with global attention on tokens of mixed resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...structures import TokenSet
from .basic import DropPath, Mlp, layer_scale


class ImageRows:
    """Rows of several packed levels, laid end to end, as one sequence per image and back.

    Args:
        levels: token levels of one batch.
    """

    def __init__(self, levels: Sequence[TokenSet]) -> None:
        image = torch.cat([level.batch_index() for level in levels])
        self.lengths = [
            sum(counts) for counts in zip(*(level.lengths for level in levels), strict=True)
        ]
        longest = max(self.lengths, default=0)
        order = torch.sort(image, stable=True).indices
        lengths = torch.tensor(self.lengths, device=image.device)
        first = lengths.cumsum(0) - lengths
        #: ``(T,)`` where every row is in the padded sequences laid end to end.
        self.place = torch.empty_like(order)
        ordered = image[order]
        step = torch.arange(len(order), device=image.device) - first[ordered]
        self.place[order] = ordered * longest + step
        #: ``(B, 1, 1, N)`` bool, which places hold a token; None if all do.
        self.valid: Tensor | None = None
        if any(length < longest for length in self.lengths):
            slots = torch.arange(longest, device=image.device)
            self.valid = (slots < lengths[:, None])[:, None, None]

    def to_sequences(self, rows: Tensor) -> Tensor:
        """``(T, C)`` to ``(B, N, C)``, zero behind an image's last token."""
        batch = len(self.lengths)
        longest = max(self.lengths, default=0)
        out = rows.new_zeros((batch * longest, rows.shape[1]))
        return out.index_copy(0, self.place, rows).unflatten(0, (batch, longest))

    def to_rows(self, sequences: Tensor) -> Tensor:
        """``(B, N, C)`` back to ``(T, C)``."""
        return sequences.flatten(0, 1).index_select(0, self.place)


class GlobalAttention(nn.Module):
    """Multi-head attention of every token to all tokens of its image.

    Args:
        dim: channels.
        num_heads: heads; must divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """``x (B, N, C)`` to the same; ``valid (B, 1, 1, N)`` bool, which tokens there are."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=valid)
        return self.proj(out.transpose(1, 2).flatten(2))


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
        self.attn = GlobalAttention(dim, num_heads)
        self.scale1 = layer_scale(dim, layer_scale_init)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.scale2 = layer_scale(dim, layer_scale_init)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """``x (B, N, C)`` to the same; ``valid`` as of :class:`GlobalAttention`."""
        x = x + self.drop_path(self.scale1(self.attn(self.norm1(x), valid)))
        return x + self.drop_path(self.scale2(self.mlp(self.norm2(x))))
