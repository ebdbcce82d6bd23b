"""Tokens of some images of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from ..models.token_reduction import ActiveTokens, ReducedTokens, StagePrediction, TokenLayout
from ..structures import AllocationRound, MixedTokens, TokenSet

#: What backbones return that tell of their tokens.
Tokens = MixedTokens | ReducedTokens


def batch_size_of(tokens: Tokens) -> int:
    """Images of a batch."""
    return (tokens.layout if isinstance(tokens, ReducedTokens) else tokens).batch_size


def split_images(tokens: Tokens, size: int) -> list[Tokens]:
    """The tokens of every so many images, as if these had been a batch; nothing is copied."""
    found: list[Tokens] = []
    for first in range(0, batch_size_of(tokens), size):
        images = slice(first, first + size)
        if isinstance(tokens, ReducedTokens):
            found.append(_of_reduced(tokens, images))
        else:
            levels = tuple(_of_level(level, images) for level in tokens.levels)
            rounds = tuple(_of_round(record, images) for record in tokens.rounds)
            found.append(replace(tokens, levels=levels, rounds=rounds))
    return found


def _rows(lengths: Sequence[int], images: slice) -> slice:
    """Rows of some images among those of all."""
    first = sum(lengths[: images.start])
    return slice(first, first + sum(lengths[images]))


def _offsets(offsets: Tensor, images: slice) -> Tensor:
    part = offsets[images.start : images.stop + 1]
    return part - part[0]


def _of_level(level: TokenSet, images: slice) -> TokenSet:
    rows = _rows(level.lengths, images)
    return replace(
        level,
        feats=level.feats[rows],
        xy=level.xy[rows],
        offsets=_offsets(level.offsets, images),
        lengths=level.lengths[images],
    )


def _of_round(record: AllocationRound, images: slice) -> AllocationRound:
    rows = _rows(record.lengths, images)
    return replace(
        record,
        scores=record.scores[rows],
        selected=record.selected[rows],
        xy=record.xy[rows],
        offsets=_offsets(record.offsets, images),
        lengths=record.lengths[images],
        selected_lengths=record.selected_lengths[images],
    )


def _of_reduced(tokens: ReducedTokens, images: slice) -> ReducedTokens:
    layout = tokens.layout
    rows = _rows(layout.lengths, images)

    def of_layout(numbers: Tensor | None, lengths: Sequence[int]) -> Tensor | None:
        """Rows of the layout, of so many tokens per image."""
        return None if numbers is None else numbers[_rows(lengths, images)] - rows.start

    def of_stage(stage: ActiveTokens) -> ActiveTokens:
        feats = stage.feats[_rows(stage.lengths, images)]
        return ActiveTokens(feats, of_layout(stage.rows, stage.lengths), stage.lengths[images])

    def of_halt(halt: StagePrediction) -> StagePrediction:
        return StagePrediction(
            halt.class_logits[images],
            halt.mask_logits[rows],
            halt.lengths[images],
            halt.kept[images],
            of_layout(halt.rows, halt.kept),
        )

    part: TokenLayout = replace(
        layout,
        places=layout.places[rows],
        sizes=layout.sizes[rows],
        owner=None if layout.owner is None else layout.owner[images] - rows.start,
        lengths=layout.lengths[images],
        counts=layout.counts[images],
    )
    return ReducedTokens(
        part, tuple(map(of_stage, tokens.stages)), tuple(map(of_halt, tokens.halts))
    )
