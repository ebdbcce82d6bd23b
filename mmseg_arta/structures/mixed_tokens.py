"""Tokens of mixed resolution: what a sparse backbone returns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NoReturn

from torch import Tensor

from .token_set import TokenSet


@dataclass(frozen=True)
class AllocationRound:
    """What one allocation round decided about the candidates of one level (ARTA 3.2.2).

    Attributes:
        scores: ``(N,)`` float32 boundary scores, one per candidate token.
        selected: ``(N,)`` bool, which candidates got four finer tokens.
        xy: ``(N, 2)`` int32 candidate coordinates in units of 4 px.
        offsets: ``(B + 1,)`` int32 row offsets per image.
        lengths: candidates per image.
        selected_lengths: selected candidates per image.
        patch_size: side of a candidate's patch in pixels.
        grid: ``(rows, columns)`` of the candidates' level on the canvas.
    """

    scores: Tensor
    selected: Tensor
    xy: Tensor
    offsets: Tensor
    lengths: tuple[int, ...]
    selected_lengths: tuple[int, ...]
    patch_size: int
    grid: tuple[int, int]


@dataclass(frozen=True)
class MixedTokens:
    """Token levels of a batch, coarse to fine; finer tokens overlap the coarse ones they refine.

    Attributes:
        levels: token sets, patch sizes descending.
        image_size: ``(height, width)`` in pixels of the images as they came in.
        canvas: ``(height, width)`` in pixels after padding right and below.
        rounds: one entry per allocation round, first round first. Behind them, with
            ``ReconsideringAllocation``, what later rounds decided about the coarser tokens that
            were left: by round, then coarse to fine.
    """

    levels: tuple[TokenSet, ...]
    image_size: tuple[int, int]
    canvas: tuple[int, int]
    rounds: tuple[AllocationRound, ...] = field(default=())

    @property
    def batch_size(self) -> int:
        return self.levels[0].batch_size

    def tokens_per_image(self) -> list[list[int]]:
        """Token counts ``[level][image]``, coarse to fine."""
        return [list(level.lengths) for level in self.levels]

    # What stock heads and necks do with maps, answered with what to do instead.

    def __getitem__(self, index: object) -> NoReturn:
        raise TypeError(
            'the backbone hands out tokens (MixedTokens), and what stands behind it takes maps: '
            "put neck=dict(type='TokensToMaps', in_channels=...) between them, or use a head for "
            'tokens, such as SparseMask2FormerHead'
        )

    def __len__(self) -> int:
        return self[0]

    def __bool__(self) -> bool:
        return True


class TokenMaps(list):
    """Dense maps ``(B, C, H, W)`` for stock heads, with the tokens they were made from.

    A list, so that stock heads take it as it is; ``tokens`` lets a sparse-aware
    auxiliary head behind the same neck reach the allocation scores.
    """

    def __init__(self, maps: Iterable[Tensor], tokens: MixedTokens) -> None:
        super().__init__(maps)
        self.tokens = tokens


def tokens_of(inputs: object) -> MixedTokens:
    """The :class:`MixedTokens` behind a head's input.

    Args:
        inputs: a :class:`MixedTokens` or :class:`TokenMaps`.

    Raises:
        TypeError: if the input carries no tokens.
    """
    if isinstance(inputs, MixedTokens):
        return inputs
    if isinstance(inputs, TokenMaps):
        return inputs.tokens
    raise TypeError(
        f'this head needs the tokens of a sparse backbone: expected MixedTokens or the output of '
        f'the TokensToMaps neck, found {type(inputs).__name__}'
    )
