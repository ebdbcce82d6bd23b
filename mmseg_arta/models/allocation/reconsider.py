"""An allocation round that also decides about coarser tokens without children."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...structures import AllocationRound, TokenSet, offsets_from_lengths
from .allocator import TokenAllocator, gate, shares_of
from .host_counts import counts_on_host
from .policies import AllocationPolicy, Candidates
from .segments import segment_counts


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
class Allocation:
    """State of the allocation stage, changed from round to round.

    Attributes:
        levels: tokens present, coarse to fine, as wide as the latest round's blocks.
        laterals: for every round so far, its tokens as the refinement stage will need them,
            rows like those of ``levels``.
        open: tokens without children, per level.
        records: what the rounds decided about the finest tokens.
        late: and about coarser ones.
    """

    levels: list[TokenSet]
    laterals: list[list[TokenSet]]
    open: list[OpenTokens]
    records: list[AllocationRound]
    late: list[AllocationRound]


def reconsidering_round(
    state: Allocation,
    allocators: Sequence[TokenAllocator],
    missed: Sequence[Callable[[Tensor], Tensor]],
    image: Tensor,
    policy: AllocationPolicy,
    truth: Sequence[Tensor] | None = None,
) -> None:
    """Run an allocation round on all tokens without children, and put the new ones in place.

    Coarser candidates are scored by the round's own predictor, as they are now. If one is
    chosen late, its children start as they would have in the round that left it out: from
    what their parent was then. The rounds that they missed carry them to the present width
    without their blocks, which is also what the refinement stage gets from these rounds.

    Args:
        state: after as many rounds as there are levels but one; changed.
        allocators: of all rounds.
        missed: for every round so far, how it takes features to its width without its blocks.
        image: ``(B, 3, H, W)`` normalised pixels on the canvas.
        policy: who chooses, among the candidates of all levels together.
        truth: true boundary shares per patch, coarse to fine.
    """
    index = len(state.levels) - 1
    allocator = allocators[index]
    parts = [mask.of(level) for mask, level in zip(state.open, state.levels, strict=True)]
    batches = [part.batch_index() for part in parts]
    scores = allocator.predict(torch.cat([part.feats for part in parts]))
    sizes = [len(part) for part in parts]
    batch = torch.cat(batches)
    # A policy sees the candidates of an image together.
    order = torch.sort(batch, stable=True).indices
    lengths = tuple(sum(counts) for counts in zip(*(part.lengths for part in parts), strict=True))
    levels = torch.arange(len(parts), device=batch.device).repeat_interleave(
        torch.tensor(sizes, device=batch.device), output_size=len(batch)
    )
    shares = None
    if truth is not None:
        shares = torch.cat([shares_of(*each) for each in zip(parts, batches, truth, strict=False)])[
            order
        ]
    chosen = policy(
        Candidates(
            scores.detach()[order],
            batch[order],
            offsets_from_lengths(lengths, batch.device),
            lengths,
            levels[order],
            tuple(level.lengths for level in state.levels),
            shares,
        ),
        index,
        allocator.training,
    )
    selected = torch.empty_like(chosen)
    selected[order] = chosen
    factors = torch.ones_like(scores)
    if allocator.straight_through:
        factors = gate(scores, selected, batch, len(lengths))

    picked = selected.split(sizes)
    counts = torch.stack(
        [segment_counts(mask, part.offsets) for mask, part in zip(picked, parts, strict=True)]
    )
    images = len(lengths)
    flat = counts_on_host(counts.flatten())
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
    state.late += records[:-1]

    born = []
    for number, part in enumerate(parts):
        rows = state.open[number].rows()
        factor = torch.ones(len(state.levels[number]), dtype=scores.dtype, device=rows.device)
        factor = factor.index_copy(0, rows, factors.split(sizes)[number])[:, None]
        level = state.levels[number]
        # What the parents were when their own round had the choice.
        then = state.laterals[number][number]
        parents = replace(part, feats=(then.feats * factor).index_select(0, rows))
        born.append(
            allocators[number].split(
                parents, image, picked[number], counts[number], on_host[number]
            )
        )
        state.levels[number] = level.with_feats(level.feats * factor)
        mask = state.open[number].mask.index_copy(0, rows, ~picked[number])
        left = tuple(a - b for a, b in zip(part.lengths, on_host[number], strict=True))
        state.open[number] = OpenTokens(mask, left)
    for number, tokens in enumerate(born[:-1], 1):
        _insert_late(state, number, tokens, missed)
    state.levels.append(born[-1])
    state.open.append(OpenTokens.all_of(born[-1]))


def _insert_late(
    state: Allocation, number: int, born: TokenSet, missed: Sequence[Callable[[Tensor], Tensor]]
) -> None:
    """Put tokens into level ``number`` of the state, as the rounds that they missed make them."""
    order = merged_order(state.levels[number], born)
    feats = born.feats
    for index in range(number, len(state.laterals)):
        feats = missed[index](feats)
        lateral = state.laterals[index]
        lateral[number] = merged(lateral[number], born.with_feats(feats), order)
    state.levels[number] = merged(state.levels[number], born.with_feats(feats), order)
    is_open = torch.cat((state.open[number].mask, torch.ones_like(born.xy[:, 0], dtype=torch.bool)))
    lengths = tuple(a + b for a, b in zip(state.open[number].lengths, born.lengths, strict=True))
    state.open[number] = OpenTokens(is_open[order], lengths)


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
