"""Transformer decoder with masked attention to sparse tokens (Mask2Former 3.2, ARTA 3.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....option_checks import (
    MOST_CHANNELS,
    MOST_LAYERS,
    MOST_PIXELS,
    check_choice,
    check_heads,
    check_whole,
    check_wholes,
)
from ....structures import (
    TokenSet,
    at_least_one,
    host_sizes,
    largest,
    mask_step,
    without_autocast,
)
from .mask_features import CellTokens, MaskFeatures, at_least_float32, central_cells
from .pixel_decoder import PixelDecoderOutput
from .positions import (
    LearnedCellPosition,
    Normalize,
    SineCellPosition,
    check_normalize,
    token_positions,
)

# Beyond any logit, and half of what float32 holds, so that a logit can be added.
_FAR = 1.7e38


@dataclass(frozen=True)
class Padding:
    """How tokens of images with unequal counts are laid out per image.

    Attributes:
        slots: ``(B, N)`` int64 packed row of every slot, ``N`` the largest count of the batch.
        valid: ``(B, N)`` bool, which slots hold a token.
        bias: ``(B, 1, N)`` float32, added to mask logits: 0 for a token, far below any logit
            where there is none. In an image without tokens, whose queries attend to padding,
            far above.
    """

    slots: Tensor
    valid: Tensor
    bias: Tensor

    @classmethod
    def of(cls, level: TokenSet) -> Padding:
        """The layout of a level."""
        device = level.xy.device
        # A compiler that knows a size to be at least two makes no special case for one.
        least = 2 if torch.compiler.is_compiling() else 1
        slot = torch.arange(largest(least, *level.lengths), device=device)
        offsets = level.offsets.long()
        counts = offsets.diff()[:, None]
        valid = slot < counts
        slots = (offsets[:-1, None] + slot).clamp(max=largest(len(level) - 1, 0))
        missing = torch.where(counts > 0, -_FAR, _FAR)
        bias = missing.masked_fill(valid, 0.0)[:, None].to(torch.float32)
        return cls(slots, valid, bias)


@dataclass(frozen=True)
class Memory:
    """Tokens that queries attend to: packed features and how to lay them out per image.

    This is the one place where images with fewer tokens are padded, and masked: attention of
    equally many queries to every image's tokens is one dense call.

    Attributes:
        value: ``(T, C)`` features, packed.
        key: ``(T, C)`` features with positions, packed.
        images: of the batch.
        padding: None where all images have equally many tokens, at least one.
    """

    value: Tensor
    key: Tensor
    images: int
    padding: Padding | None

    @classmethod
    def of(cls, level: TokenSet, key: Tensor, value: Tensor) -> Memory:
        """The tokens of a level with ``key`` and ``value (T, C)``."""
        # A compiled graph serves all counts.
        equal = not torch.compiler.is_compiling() and len(set(level.lengths)) == 1
        padding = None if equal and level.lengths[0] else Padding.of(level)
        return cls(value, key, level.batch_size, padding)

    def laid_out(self, rows: Tensor) -> Tensor:
        """Packed ``(T, ...)`` rows as ``(B, N, ...)``; padding holds rows of other tokens."""
        if self.padding is None:
            return rows.unflatten(0, (self.images, -1))
        return at_least_one(rows)[self.padding.slots]

    def padded(self, rows: Tensor) -> Tensor:
        """Packed ``(T, C)`` rows as ``(B, N, C)``, zero where there is no token."""
        laid_out = self.laid_out(rows)
        return laid_out if self.padding is None else laid_out * self.padding.valid[..., None]


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

    def _projections(self, *parts: int) -> list[tuple[Tensor, Tensor]]:
        """Weights and biases of queries, keys and values, so many of them in one product."""
        sizes = [count * self.out_proj.in_features for count in parts]
        # Slices would each get a gradient of the size of the whole.
        weights, biases = self.in_proj.weight.split(sizes), self.in_proj.bias.split(sizes)
        return list(zip(weights, biases, strict=True))

    def forward(
        self, query: Tensor, memory: Memory | None, x: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Args:
            query: ``(B, Q, C)`` queries with positions.
            memory: tokens to attend to; None for the queries themselves.
            x: ``(B, Q, C)`` queries without positions, the values if there is no memory.
            mask: ``(B, Q, N)``, added to attention's logits, see :func:`attention_mask`.

        Returns:
            ``(B, Q, C)``.
        """
        if memory is None:
            of_both, of_value = self._projections(2, 1)
            query, key = F.linear(query, *of_both).chunk(2, -1)
            value = F.linear(x, *of_value)
        else:
            of_query, of_key, of_value = self._projections(1, 1, 1)
            query = F.linear(query, *of_query)
            key = memory.padded(F.linear(memory.key, *of_key))
            value = memory.padded(F.linear(memory.value, *of_value))
        heads = [
            rows.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for rows in (query, key, value)
        ]
        if mask is not None:
            mask = mask[:, None].to(query.dtype)
        out = F.scaled_dot_product_attention(*heads, attn_mask=mask)
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

    def forward(self, x: Tensor, position: Tensor, memory: Memory, mask: Tensor) -> Tensor:
        """``x`` and ``position (B, Q, C)``, ``mask (B, Q, N)`` to ``(B, Q, C)``."""
        x = self.cross_attn_norm(x + self.cross_attn(x + position, memory, x, mask))
        x = self.self_attn_norm(x + self.self_attn(x + position, None, x))
        return self.ffn_norm(x + self.fc2(F.relu(self.fc1(x), inplace=True)))


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
    """Queries that attend to sparse tokens inside the mask they predicted before.

    The coarse levels are attended to in turn, coarsest first, and stay sparse; only the mask
    features are densified, by the finest token at every place plus an embedding of the place
    (ARTA 3.5). A query may attend to a token if the mean of its previous mask logits in the four
    central cells of the token's patch is not negative; a query without any such token attends to
    all.

    The papers also let queries attend to the densified map, in turn with the coarse levels (DUPS
    3.3, ARTA 3.5), which is ``memory='all'``. The published code does not, and the operations
    that the papers print are those without.

    Args:
        num_classes: classes without 'no object'.
        dim: channels, those of the memory.
        mask_dim: channels of the mask features.
        num_queries: queries.
        num_layers: layers.
        num_heads: attention heads.
        hidden: channels inside the feed-forward networks.
        num_levels: coarse levels that the pixel decoder gives.
        patch_sizes: patch sizes in pixels of the tokens with mask features.
        cell_position: embedding of places in the mask features: 'learned' as in the papers,
            the fixed 'sine' of the published code, or 'none' for dense maps.
        normalize: how the memory's positions are normalised, 'canvas' or 'max'.
        memory: what queries attend to: the 'coarse' levels, as in the published code, or 'all',
            the densified mask features as the finest level too, as in the papers' text.

    Raises:
        ValueError: for an unknown option, or ``memory='all'`` with ``dim`` other than
            ``mask_dim``.
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
        memory: str = 'coarse',
    ) -> None:
        check_whole(self, most=MOST_CHANNELS, num_classes=num_classes, num_queries=num_queries)
        check_whole(self, most=MOST_CHANNELS, dim=dim, mask_dim=mask_dim, hidden=hidden)
        check_whole(self, most=MOST_LAYERS, num_layers=num_layers, num_levels=num_levels)
        check_wholes(self, most=MOST_PIXELS, patch_sizes=patch_sizes)
        check_heads(self, dim, num_heads=num_heads)
        super().__init__()
        check_normalize(normalize)
        check_choice(self, ('coarse', 'all'), memory=memory)
        if memory == 'all' and dim != mask_dim:
            raise ValueError(
                f"memory='all' needs mask features of as many channels as the queries: "
                f'found mask_dim={mask_dim}, dim={dim}'
            )
        if cell_position not in ('learned', 'sine', 'none'):
            raise ValueError(
                f"cell_position must be 'learned', 'sine' or 'none', found {cell_position!r}"
            )
        self.dim, self.mask_dim, self.normalize = dim, mask_dim, normalize
        self.query_feat = nn.Embedding(num_queries, dim)
        self.query_embed = nn.Embedding(num_queries, dim)
        self.num_coarse, self.attends_to_all = num_levels, memory == 'all'
        self.level_embed = nn.Embedding(num_levels + self.attends_to_all, dim)
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
            ValueError: if the pixel decoder does not give ``num_levels`` coarse levels.
        """
        levels = inputs.memory
        if len(levels) != self.num_coarse:
            raise ValueError(
                f'the decoder attends to {self.num_coarse} coarse levels, '
                f'the pixel decoder gives {len(levels)}'
            )
        cells = CellTokens.of(inputs.mask_levels)
        with without_autocast(inputs.mask_feats):
            factors = [cells.factor(at_least_float32(inputs.mask_feats))]
            if self.cell_position is not None:
                factors += self.cell_position(cells)
        mask_feats = MaskFeatures(tuple(factors), cells.grid)
        if self.attends_to_all:
            dense = mask_feats.dense(self.dim).to(inputs.mask_feats.dtype)
            levels = (*levels, TokenSet.from_map(dense, inputs.mask_levels[-1].patch_size))
        memories = self._memories(levels, inputs.canvas)
        centers = [central_cells(level, cells) for level in levels]

        # The mean of a query's logits in a token's central cells is its product with their mean
        # feature, so every layer multiplies with tokens, not with cells.
        with torch.no_grad(), without_autocast(inputs.mask_feats):
            groups = [memory.laid_out(cell) for cell, memory in zip(centers, memories, strict=True)]
            center_feats = mask_feats.means(torch.cat(groups, 1), self.mask_dim).split(
                [host_sizes(group)[1] for group in groups], 1
            )

        batch = len(levels[0].lengths)
        x = self.query_feat.weight.repeat(batch, 1, 1)
        position = self.query_embed.weight.repeat(batch, 1, 1)
        plain = without_autocast(x)
        states, embeds = [], []
        for number in range(len(self.layers) + 1):
            with plain:
                states.append(self.norm(x.to(self.norm.weight.dtype)))
                embeds.append(self._mask_embed(states[-1]))
            if number == len(self.layers):
                break
            turn = number % len(levels)
            with torch.no_grad(), plain, mask_step(embeds[-1], cells.grid):
                mask = attention_mask(embeds[-1], memories[turn], center_feats[turn])
            x = self.layers[number](x, position, memories[turn], mask)
        with plain:
            classes = self.class_embed(torch.stack(states))
        return QueryPredictions(classes.unbind(), tuple(embeds), mask_feats)

    def _mask_embed(self, x: Tensor) -> Tensor:
        for layer in self.mask_embed[:-1]:
            x = torch.relu(layer(x))
        return self.mask_embed[-1](x)

    def _memories(self, levels: Sequence[TokenSet], canvas: tuple[int, int]) -> list[Memory]:
        kind = self.level_embed.weight.dtype
        positions = token_positions(levels, self.dim, canvas, self.normalize).to(kind)
        memories = []
        for level, embed, position in zip(
            levels,
            self.level_embed.weight,
            positions.split([len(level) for level in levels]),
            strict=True,
        ):
            value = level.feats + embed
            memories.append(Memory.of(level, value + position, value))
        return memories


def attention_mask(embed: Tensor, memory: Memory, center_feats: Tensor) -> Tensor:
    """Which tokens a query may attend to, from its present mask (Mask2Former eq. 3).

    Args:
        embed: ``(B, Q, C)`` mask embeddings of the queries.
        memory: the tokens.
        center_feats: ``(B, N, C)`` mean mask features of the tokens' central cells.

    Returns:
        ``(B, Q, N)`` float32 to be added to attention's logits: 0 where a query may attend, so
        far below any logit elsewhere that nothing is left of it. At least one slot of every
        query is 0.
    """
    logits = embed.to(center_feats.dtype) @ center_feats.transpose(1, 2)
    if memory.padding is not None:
        logits = logits + memory.padding.bias
    # A query that is nowhere inside its mask attends to all tokens, but not to padding.
    least = (logits.amax(-1, keepdim=True) < 0) * (-_FAR / 2)
    return (logits < least) * -_FAR
