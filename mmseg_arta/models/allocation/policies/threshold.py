"""ARTA's policy: every score above a threshold."""

from __future__ import annotations

from collections.abc import Sequence

from mmseg.registry import MODELS
from torch import Tensor

from ....option_checks import check_thresholds
from .base import AllocationPolicy, Candidates, check_length


@MODELS.register_module()
class ThresholdAllocation(AllocationPolicy):
    """Every token whose score exceeds the round's threshold, per image (ARTA 3.3.2, eq. 1).

    Args:
        thresholds: one per allocation round.
    """

    def __init__(self, thresholds: Sequence[float] = (0.005, 0.01, 0.02)) -> None:
        self.thresholds = check_thresholds(self, thresholds=thresholds)

    def check_rounds(self, rounds: int) -> None:
        check_length('ThresholdAllocation.thresholds', self.thresholds, rounds)

    def __call__(self, candidates: Candidates, round_index: int, training: bool) -> Tensor:
        return candidates.above(self.thresholds, round_index)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(thresholds={self.thresholds})'
