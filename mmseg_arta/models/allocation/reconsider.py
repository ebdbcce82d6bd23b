"""Allocation rounds that also decide about coarser tokens without children."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from ...structures import AllocationRound, TokenSet, host_sizes, offsets_from_lengths
from ..layers import EncoderLayout
from .allocator import Allocation, TokenAllocator, gate, shares_of, shown_scores
from .bound import TokenBound
from .host_counts import counts_on_host
from .policies import AllocationPolicy, Candidates
from .segments import segment_ends


class Round(Protocol):
    """What is asked of an encoder's round."""

    def __call__(self, levels: Sequence[TokenSet], layout: EncoderLayout) -> list[TokenSet]:
        """Mix all tokens of ``levels``, coarse to fine."""
        ...

    def without_blocks(self, x: Tensor) -> Tensor:
        """``x (T, C_in)`` to ``(T, C)``, for tokens that were not there when the blocks ran."""
        ...


@dataclass(frozen=True)
class OpenTokens:
    """Tokens of a level that have no children yet.

    Attributes:
        mask: ``(T,)`` bool over the level's rows.
        lengths: how many per image.
    """

    mask: Tensor
    lengths: tuple[int, ...]

    @classmethod
    def all_of(cls, level: TokenSet) -> OpenTokens:
        """Every token of a level."""
        return cls(torch.ones(len(level), dtype=torch.bool, device=level.xy.device), level.lengths)

    def rows(self) -> Tensor:
        """Rows of the open tokens, ascending; the host need not learn which they are."""
        first = torch.sort((~self.mask).to(torch.uint8), stable=True).indices
        return first.narrow(0, 0, sum(self.lengths))

    def of(self, level: TokenSet) -> TokenSet:
        """The open tokens of the level that the mask is of."""
        rows = self.rows()
        return replace(
            level,
            feats=level.feats.index_select(0, rows),
            xy=level.xy.index_select(0, rows),
            offsets=offsets_from_lengths(self.lengths, rows.device),
            lengths=self.lengths,
        )


@dataclass
class ReconsideredAllocation(Allocation):
    """State of an allocation stage in which coarser tokens may be refined late.

    Attributes:
        levels: tokens present, coarse to fine, as wide as the latest round's blocks.
        open_tokens: tokens without children, per level.
    """

    levels: list[TokenSet] = field(default_factory=list)
    open_tokens: list[OpenTokens] = field(default_factory=list)


def allocate_reconsidering(
    levels: list[TokenSet],
    rounds: Sequence[Round],
    allocators: Sequence[TokenAllocator],
    policy: AllocationPolicy,
    image: Tensor,
    layout: EncoderLayout,
    truth: Sequence[Tensor] | None = None,
    max_tokens: int | None = None,
    image_size: tuple[int, int] | None = None,
) -> ReconsideredAllocation:
    """Allocation stage for :class:`ReconsideringAllocation`.

    Args:
        levels: the coarsest tokens, after the pre-allocation round.
        rounds: the pre-allocation and the allocation rounds.
        allocators: of the allocation rounds.
        policy: who chooses, among the candidates of all levels together.
        image: ``(B, in_channels, H, W)`` normalised pixels on the canvas.
        layout: where tokens are.
        truth: true boundary shares per patch, coarse to fine.
        max_tokens: most tokens of an image, see :class:`TokenBound`.
        image_size: ``(height, width)`` in pixels of what the canvas shows; None for all.
    """
    state = ReconsideredAllocation([levels])
    state.levels, state.open_tokens = list(levels), [OpenTokens.all_of(levels[0])]
    for mix in rounds[1:]:
        _allocate_among_open(
            state, allocators, rounds, image, policy, truth, max_tokens, image_size
        )
        # Tokens may have joined any level.
        layout.forget()
        state.levels = mix(state.levels, layout)
        state.levels_after.append(list(state.levels))
    return state


def _allocate_among_open(
    state: ReconsideredAllocation,
    allocators: Sequence[TokenAllocator],
    rounds: Sequence[Round],
    image: Tensor,
    policy: AllocationPolicy,
    truth: Sequence[Tensor] | None,
    max_tokens: int | None,
    image_size: tuple[int, int] | None,
) -> None:
    """Decide about all tokens without children, and insert the new tokens into their levels.

    The round's own predictor scores coarser candidates, by their present features. Children of
    one that is selected late start from its features after the round that could have selected
    it first. Norms and projections of the rounds that they missed, without the blocks, bring
    them to the present width; the same features stand in for them in the laterals.
    """
    index = len(state.levels) - 1
    allocator = allocators[index]
    parts = [mask.of(level) for mask, level in zip(state.open_tokens, state.levels, strict=True)]
    batches = [part.batch_index() for part in parts]
    scores = allocator.predict(torch.cat([part.feats for part in parts]))
    sizes = [len(part) for part in parts]
    batch = torch.cat(batches)
    # A policy sees the candidates of an image together.
    order = torch.sort(batch, stable=True).indices
    lengths = tuple(sum(counts) for counts in zip(*(part.lengths for part in parts), strict=True))
    level_of = torch.arange(len(parts), device=batch.device).repeat_interleave(
        torch.tensor(sizes, device=batch.device), output_size=len(batch)
    )
    shares = None
    if truth is not None:
        shares = torch.cat([shares_of(*each) for each in zip(parts, batches, truth, strict=False)])[
            order
        ]
    offsets = offsets_from_lengths(lengths, batch.device)
    places = torch.cat([part.xy for part in parts])
    shown = shown_scores(scores.detach(), places, host_sizes(image)[2:], image_size)
    wanted = policy(
        Candidates(
            shown[order],
            batch[order],
            offsets,
            lengths,
            level_of[order],
            tuple(level.lengths for level in state.levels),
            shares,
        ),
        index,
        allocator.training,
    )
    bound = TokenBound.on(state.levels, max_tokens)
    chosen, bounded = allocator.within(bound, wanted, scores[order], batch[order], offsets)
    selected = torch.empty_like(chosen)
    selected[order] = chosen
    factors = torch.ones_like(scores)
    if allocator.straight_through:
        factors = gate(scores, selected, batch, len(lengths))
    factors = factors.to(allocator.dtype)

    picked = selected.split(sizes)
    ends = torch.stack(
        [segment_ends(mask, part.offsets) for mask, part in zip(picked, parts, strict=True)]
    )
    images = len(lengths)
    flat = counts_on_host(ends.diff().flatten(), bounded)
    on_host = [flat[first : first + images] for first in range(0, len(flat), images)]
    records = [
        AllocationRound(
            score,
            mask,
            part.xy,
            part.offsets,
            part.lengths,
            number,
            part.patch_size,
            part.grid,
        )
        for score, mask, part, number in zip(
            scores.split(sizes), picked, parts, on_host, strict=True
        )
    ]
    state.records.append(records[-1])
    state.late_records += records[:-1]

    children = []
    for number, part in enumerate(parts):
        rows = state.open_tokens[number].rows()
        factor = torch.ones(len(state.levels[number]), dtype=factors.dtype, device=rows.device)
        factor = factor.index_copy(0, rows, factors.split(sizes)[number])[:, None]
        level = state.levels[number]
        # Features of the parents after the round that could have selected them first.
        then = state.levels_after[number][number]
        parents = replace(part, feats=(then.feats * factor).index_select(0, rows))
        children.append(
            allocators[number].split(parents, image, picked[number], ends[number], on_host[number])
        )
        state.levels[number] = level.with_feats(level.feats * factor)
        mask = state.open_tokens[number].mask.index_copy(0, rows, ~picked[number])
        left = tuple(a - b for a, b in zip(part.lengths, on_host[number], strict=True))
        state.open_tokens[number] = OpenTokens(mask, left)
    for number, tokens in enumerate(children[:-1], 1):
        _insert_late(state, number, tokens, rounds)
    state.levels.append(children[-1])
    state.open_tokens.append(OpenTokens.all_of(children[-1]))


def _insert_late(
    state: ReconsideredAllocation, number: int, late: TokenSet, rounds: Sequence[Round]
) -> None:
    """Insert new tokens into level ``number``, of the present tokens and of the laterals.

    Their features pass norms and projections of the rounds that they missed, without the blocks.
    """
    order = merged_order(state.levels[number], late)
    feats = late.feats
    for index in range(number, len(state.levels_after)):
        feats = rounds[index].without_blocks(feats)
        lateral = state.levels_after[index]
        lateral[number] = merged(lateral[number], late.with_feats(feats), order)
    state.levels[number] = merged(state.levels[number], late.with_feats(feats), order)
    is_open = state.open_tokens[number]
    mask = torch.cat((is_open.mask, torch.ones_like(late.xy[:, 0], dtype=torch.bool)))
    lengths = tuple(a + b for a, b in zip(is_open.lengths, late.lengths, strict=True))
    state.open_tokens[number] = OpenTokens(mask[order], lengths)


def merged_order(tokens: TokenSet, others: TokenSet) -> Tensor:
    """Order of the rows of two sets laid end to end that is raster order per image again."""
    xy = torch.cat((tokens.xy, others.xy)).to(torch.int64)
    batch = torch.cat((tokens.batch_index(), others.batch_index()))
    key = (batch << 40) | (xy[:, 1] << 20) | xy[:, 0]
    return torch.sort(key).indices


def merged(tokens: TokenSet, others: TokenSet, order: Tensor) -> TokenSet:
    """Two token sets of one level as one, its rows in the order of :func:`merged_order`."""
    return replace(
        tokens,
        feats=torch.cat((tokens.feats, others.feats))[order],
        xy=torch.cat((tokens.xy, others.xy))[order],
        offsets=tokens.offsets + others.offsets,
        lengths=tuple(a + b for a, b in zip(tokens.lengths, others.lengths, strict=True)),
    )
