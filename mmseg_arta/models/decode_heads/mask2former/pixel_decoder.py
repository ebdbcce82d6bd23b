"""What the pixel decoders have in common: their encoder layer and what they return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ....option_checks import (
    MOST_CHANNELS,
    MOST_LAYERS,
    check_heads,
    check_whole,
    check_wholes,
    fail,
)
from ....structures import MixedTokens, TokenSet
from ...layers import DeformAttention


@dataclass(frozen=True)
class PixelDecoderOutput:
    """What a pixel decoder hands to the transformer decoder.

    Attributes:
        memory: the coarse levels, coarse to fine, that queries attend to.
        mask_levels: the levels whose tokens have mask features, coarse to fine.
        mask_feats: ``(V, C)`` mask features of their tokens, levels laid end to end.
        canvas: ``(height, width)`` in pixels after padding.
        image_size: ``(height, width)`` in pixels before padding.
    """

    memory: tuple[TokenSet, ...]
    mask_levels: tuple[TokenSet, ...]
    mask_feats: Tensor
    canvas: tuple[int, int]
    image_size: tuple[int, int]


class DeformEncoderLayer(nn.Module):
    """Post-norm transformer layer with deformable attention (Deformable DETR, AFF 4.1).

    Args:
        dim: channels.
        hidden: channels inside the feed-forward network.
        attn: the attention, called with queries, values and where they are.
    """

    def __init__(self, dim: int, hidden: int, attn: DeformAttention) -> None:
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
        x = self.norm1(x + self.attn(x + position, x, places))
        return self.norm2(x + self.fc2(F.relu(self.fc1(x), inplace=True)))


def check_pixel_decoder(
    decoder: object,
    in_channels: Sequence[int],
    dim: int,
    mask_dim: int,
    num_layers: int,
    num_heads: int,
) -> None:
    """Raises ValueError if one of the options that all pixel decoders have cannot be."""
    if len(check_wholes(decoder, most=MOST_CHANNELS, in_channels=in_channels)) < 2:
        raise fail(decoder, 'in_channels', 'at least two levels', list(in_channels))
    check_whole(decoder, most=MOST_CHANNELS, dim=dim, mask_dim=mask_dim)
    check_whole(decoder, most=MOST_LAYERS, num_layers=num_layers)
    check_heads(decoder, dim, num_heads=num_heads)


def check_channels(name: str, in_channels: Sequence[int], tokens: MixedTokens) -> None:
    """Raises ValueError if the levels of ``tokens`` do not have the channels ``in_channels``."""
    channels = tuple(level.feats.shape[1] for level in tokens.levels)
    if channels != tuple(in_channels):
        raise ValueError(
            f'{name}.in_channels is {tuple(in_channels)}, but the backbone gives '
            f'levels with {channels} channels (coarse to fine)'
        )
