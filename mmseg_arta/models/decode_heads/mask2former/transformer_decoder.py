"""Masked-attention transformer decoder on sparse tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from ....structures import TokenSet, at_least_one, mask_step
from .cell_positions import LearnedCellPosition, SineCellPosition
from .mask_features import CellTokens, MaskFeatures, central_cells
from .pixel_decoder import PixelDecoderOutput
from .positions import Normalize, check_normalize, token_positions
from .query_layer import Memory, QueryLayer


@dataclass(frozen=True)
class QueryPredictions:
    """Predictions before the first and after every layer.

    Attributes:
        class_logits: ``(B, Q, classes + 1)`` each, the last class being 'no object'.
        mask_embeds: ``(B, Q, C)`` each.
        mask_feats: what mask embeddings are multiplied with.
    """

    class_logits: tuple[Tensor, ...]
    mask_embeds: tuple[Tensor, ...]
    mask_feats: MaskFeatures

    def mask_logits(self, index: int = -1) -> Tensor:
        """Mask logits ``(B, Q, rows, columns)`` of one prediction, on the whole canvas."""
        return self.mask_feats.logits(self.mask_embeds[index])


class MaskedTransformerDecoder(nn.Module):
    """Queries that look at sparse tokens inside the mask they predicted before.

    The coarse levels are attended to in turn, coarsest first, and stay sparse; only the mask
    features are densified, by the finest token at every place plus an embedding of the place
    (ARTA 3.5). A query may look at a token if the mean of its previous mask logits in the four
    central cells of the token's patch is not negative; a query that may look at none looks at all.

    Args:
        num_classes: classes without 'no object'.
        dim: channels, those of the memory.
        mask_dim: channels of the mask features.
        num_queries: queries.
        num_layers: layers.
        num_heads: attention heads.
        hidden: channels inside the feed-forward networks.
        num_levels: levels of the memory.
        patch_sizes: patch sizes in pixels of the tokens with mask features.
        cell_position: embedding of places in the mask features: 'learned' as in the papers,
            the fixed 'sine' of the published code, or 'none' for dense maps.
        normalize: how the memory's positions are normalised, 'canvas' or 'max'.

    Raises:
        ValueError: for an unknown option.
    """

    def __init__(
        self,
        num_classes: int,
        dim: int = 256,
        mask_dim: int = 256,
        num_queries: int = 100,
        num_layers: int = 9,
        num_heads: int = 8,
        hidden: int = 2048,
        num_levels: int = 3,
        patch_sizes: Sequence[int] = (32, 16, 8, 4),
        cell_position: str = 'learned',
        normalize: Normalize = 'canvas',
    ) -> None:
        super().__init__()
        check_normalize(normalize)
        if cell_position not in ('learned', 'sine', 'none'):
            raise ValueError(
                f"cell_position must be 'learned', 'sine' or 'none', found {cell_position!r}"
            )
        self.dim, self.normalize = dim, normalize
        self.query_feat = nn.Embedding(num_queries, dim)
        self.query_embed = nn.Embedding(num_queries, dim)
        self.level_embed = nn.Embedding(num_levels, dim)
        self.layers = nn.ModuleList(QueryLayer(dim, num_heads, hidden) for _ in range(num_layers))
        self.norm = nn.LayerNorm(dim)
        self.class_embed = nn.Linear(dim, num_classes + 1)
        self.mask_embed = nn.ModuleList(nn.Linear(dim, out) for out in (dim, dim, mask_dim))
        self.cell_position: nn.Module | None = None
        if cell_position == 'learned':
            self.cell_position = LearnedCellPosition(mask_dim, patch_sizes)
        elif cell_position == 'sine':
            self.cell_position = SineCellPosition(mask_dim)

    def forward(self, inputs: PixelDecoderOutput) -> QueryPredictions:
        """Predictions of a batch.

        Raises:
            ValueError: if the memory does not have ``num_levels`` levels.
        """
        levels = inputs.memory
        if len(levels) != self.level_embed.num_embeddings:
            raise ValueError(
                f'the decoder attends to {self.level_embed.num_embeddings} levels, '
                f'the pixel decoder gives {len(levels)}'
            )
        cells = CellTokens.of(inputs.mask_levels)
        with torch.autocast(inputs.mask_feats.device.type, enabled=False):
            factors = [cells.factor(inputs.mask_feats.float())]
            if self.cell_position is not None:
                factors += self.cell_position(cells)
        mask_feats = MaskFeatures(tuple(factors), cells.grid)
        memories = [self._memory(i, level, inputs.canvas) for i, level in enumerate(levels)]
        centers = [at_least_one(central_cells(level, cells.grid)) for level in levels]

        # A query looks at the mean of its logits in a token's central cells: its product with
        # the mean feature, so every layer multiplies with tokens, not with cells.
        with torch.no_grad(), torch.autocast(inputs.mask_feats.device.type, enabled=False):
            looks = [
                mask_feats.means(place[memory.slots], self.mask_embed[-1].out_features)
                for place, memory in zip(centers, memories, strict=True)
            ]

        batch = len(levels[0].lengths)
        x = self.query_feat.weight.repeat(batch, 1, 1)
        position = self.query_embed.weight.repeat(batch, 1, 1)
        classes, embeds = [], []
        for number in range(len(self.layers) + 1):
            with torch.autocast(x.device.type, enabled=False):
                class_logits, embed = self._predict(x.float())
            classes.append(class_logits)
            embeds.append(embed)
            if number == len(self.layers):
                break
            turn = number % len(levels)
            plain = torch.autocast(x.device.type, enabled=False)
            with torch.no_grad(), plain, mask_step(embed, cells.grid):
                allowed = _allowed(embed, memories[turn], looks[turn])
            x = self.layers[number](x, position, memories[turn], allowed)
        return QueryPredictions(tuple(classes), tuple(embeds), mask_feats)

    def _predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(x)
        embed = x
        for layer in self.mask_embed[:-1]:
            embed = torch.relu(layer(embed))
        return self.class_embed(x), self.mask_embed[-1](embed)

    def _memory(self, number: int, level: TokenSet, canvas: tuple[int, int]) -> Memory:
        value = level.feats + self.level_embed.weight[number]
        key = value + token_positions(level, self.dim, canvas, self.normalize)
        device = level.xy.device
        # Sizes that a compiler cannot tell from one would be cases of their own.
        least = 2 if torch.compiler.is_compiling() else 1
        slot = torch.arange(reduce(torch.sym_max, level.lengths, least), device=device)
        offsets = level.offsets.long()
        valid = slot < offsets.diff()[:, None]
        slots = (offsets[:-1, None] + slot).clamp(max=torch.sym_max(len(level) - 1, 0))
        return Memory(value, key, slots, valid)


def _allowed(embed: Tensor, memory: Memory, looks: Tensor) -> Tensor:
    """Which slots ``(B, Q, N)`` a query may look at, from its present mask.

    ``looks (B, N, C)`` are the mean mask features of the slots' central cells.
    """
    logits = embed.to(looks.dtype) @ looks.transpose(1, 2)
    valid = memory.valid[:, None]
    inside = (logits >= 0) & valid
    allowed = inside | (~inside.any(-1, keepdim=True) & valid)
    # An image without tokens on this level: its padding, whose values are zero.
    return allowed | ~valid.any(-1, keepdim=True)
