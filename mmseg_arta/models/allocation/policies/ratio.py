"""Policies that refine a share of the tokens, those with the highest scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ....option_checks import check_number, check_numbers, check_thresholds
from ..segments import segment_counts, segment_top
from .base import AllocationPolicy, Candidates, check_length, check_shares, share_on_host, top_share


@MODELS.register_module()
class BatchRatioAllocation(AllocationPolicy):
    """A common share of the highest scores for the whole batch (DUPS 3.2.2, eq. 1 and 2).

    In training the share is the largest share of scores above the threshold of any
    image in the batch, raised to ``floor`` and then lowered to the round's cap. At
    inference each image uses its own share, with neither.

    Thresholds and caps are those of ADE20K unless given (DUPS table 8).

    Args:
        thresholds: one per allocation round.
        caps: largest share per round in training.
        floor: smallest share in training.
        inference: 'image' as in the paper, or 'batch' as in the published code: the
            largest share in the batch, at least ``floor``, at most 1, and a token
            count rounded down in single precision.
    """

    def __init__(
        self,
        thresholds: Sequence[float] = (0.01, 0.02, 0.04),
        caps: Sequence[float] = (0.85, 0.7, 0.6),
        floor: float = 0.1,
        inference: str = 'image',
    ) -> None:
        if inference not in ('image', 'batch'):
            raise ValueError(
                f"BatchRatioAllocation.inference must be 'image' or 'batch', found {inference!r}"
            )
        self.thresholds = check_thresholds(self, thresholds=thresholds)
        self.caps = check_numbers(self, caps=caps)
        check_number(self, floor=floor)
        self.floor = float(floor)
        self.inference = inference
        check_shares('BatchRatioAllocation.caps', self.caps)
        check_shares('BatchRatioAllocation.floor', [self.floor])

    def check_rounds(self, rounds: int) -> None:
        check_length('BatchRatioAllocation.thresholds', self.thresholds, rounds)
        if self.caps is not None:
            check_length('BatchRatioAllocation.caps', self.caps, rounds)

    def __call__(self, candidates: Candidates, round_index: int, training: bool) -> Tensor:
        above = candidates.above(self.thresholds, round_index)
        if not training and self.inference == 'image':
            return above
        counts = candidates.counts
        share = segment_counts(above, candidates.offsets) / counts.clamp(min=1)
        common = share.max().clamp(min=self.floor)
        if training and self.caps is not None:
            common = common.clamp(max=self.caps[round_index])
        # float32 on purpose: so does the published code, off-by-one included.
        keep = (counts.to(torch.float32) * common.to(torch.float32)).to(torch.int64)
        return segment_top(candidates.scores, candidates.batch, candidates.offsets, keep)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(thresholds={self.thresholds}, caps={self.caps}, '
            f'floor={self.floor}, inference={self.inference!r})'
        )


@MODELS.register_module()
class FixedRatioAllocation(AllocationPolicy):
    """The same share of the highest scores in every image: ``K = floor(N * ratio)`` (DUPS 5).

    Args:
        ratios: share of the candidates that is refined, one per allocation round.
    """

    def __init__(self, ratios: Sequence[float] = (0.85, 0.7, 0.6)) -> None:
        self.ratios = check_numbers(self, ratios=ratios)
        check_shares('FixedRatioAllocation.ratios', self.ratios)

    def check_rounds(self, rounds: int) -> None:
        check_length('FixedRatioAllocation.ratios', self.ratios, rounds)

    def host_counts(
        self, candidates: Candidates, round_index: int, training: bool
    ) -> tuple[int, ...] | None:
        return share_on_host(candidates, self.ratios[round_index])

    def __call__(self, candidates: Candidates, round_index: int, training: bool) -> Tensor:
        return top_share(candidates.scores, candidates, self.ratios[round_index])

    def __repr__(self) -> str:
        return f'{type(self).__name__}(ratios={self.ratios})'


@MODELS.register_module()
class FullAllocation(AllocationPolicy):
    """Every token in every round: dense grids of all patch sizes (DUPS table 4, ARTA 4.3.1)."""

    uses_scores = False

    def host_counts(
        self, candidates: Candidates, round_index: int, training: bool
    ) -> tuple[int, ...] | None:
        return candidates.lengths

    def __call__(self, candidates: Candidates, round_index: int, training: bool) -> Tensor:
        return torch.ones_like(candidates.scores, dtype=torch.bool)

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
