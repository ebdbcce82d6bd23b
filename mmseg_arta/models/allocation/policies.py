"""Allocation policies: which candidate tokens get four finer ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from mmseg.registry import MODELS
from torch import Tensor

from .segments import segment_counts, segment_top


@dataclass(frozen=True)
class Candidates:
    """Tokens that one allocation round decides about.

    Attributes:
        scores: ``(N,)`` float32 boundary scores without gradient, raster order per image.
        batch: ``(N,)`` int64 image of each candidate.
        offsets: ``(B + 1,)`` int32 row offsets.
        lengths: candidates per image.
    """

    scores: Tensor
    batch: Tensor
    offsets: Tensor
    lengths: tuple[int, ...]

    @property
    def counts(self) -> Tensor:
        """``(B,)`` int64 candidates per image, on the device."""
        return (self.offsets[1:] - self.offsets[:-1]).to(torch.int64)


@runtime_checkable
class AllocationPolicy(Protocol):
    """What an encoder asks of a policy."""

    def __call__(self, candidates: Candidates, round_index: int, training: bool) -> Tensor:
        """``(N,)`` bool on the device of the scores, without reading any value on the host.

        Args:
            candidates: tokens to decide about.
            round_index: 0 for the first round.
            training: whether the encoder is in training mode.
        """
        ...

    def check_rounds(self, rounds: int) -> None:
        """Raise ValueError if the policy is not set up for this number of rounds."""
        ...


def _check_length(name: str, values: Sequence[float], rounds: int) -> None:
    if len(values) != rounds:
        raise ValueError(
            f'{name} must hold one value per allocation round: expected {rounds}, '
            f'found {len(values)} ({list(values)})'
        )


def _check_shares(name: str, values: Sequence[float]) -> None:
    for value in values:
        if not 0.0 <= value <= 1.0:
            raise ValueError(f'{name} must be shares in [0, 1], found {list(values)}')


@MODELS.register_module()
class ThresholdAllocation:
    """Every token whose score exceeds the round's threshold, per image (ARTA 3.3.2, eq. 1).

    Args:
        thresholds: one per allocation round.
    """

    def __init__(self, thresholds: Sequence[float] = (0.005, 0.01, 0.02)) -> None:
        self.thresholds = tuple(float(value) for value in thresholds)

    def check_rounds(self, rounds: int) -> None:
        _check_length('ThresholdAllocation.thresholds', self.thresholds, rounds)

    def __call__(self, candidates: Candidates, round_index: int, training: bool) -> Tensor:
        return candidates.scores > self.thresholds[round_index]

    def __repr__(self) -> str:
        return f'{type(self).__name__}(thresholds={self.thresholds})'


@MODELS.register_module()
class BatchRatioAllocation:
    """A common share of the highest scores for the whole batch (DUPS 3.2.2, eq. 1 and 2).

    In training the share is the largest share of scores above the threshold of any
    image in the batch, raised to ``floor`` and then lowered to the round's cap. At
    inference each image uses its own share, with neither.

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
        thresholds: Sequence[float] = (0.005, 0.01, 0.02),
        caps: Sequence[float] = (0.85, 0.7, 0.6),
        floor: float = 0.1,
        inference: str = 'image',
    ) -> None:
        if inference not in ('image', 'batch'):
            raise ValueError(
                f"BatchRatioAllocation.inference must be 'image' or 'batch', found {inference!r}"
            )
        self.thresholds = tuple(float(value) for value in thresholds)
        self.caps = tuple(float(value) for value in caps)
        self.floor = float(floor)
        self.inference = inference
        _check_shares('BatchRatioAllocation.caps', self.caps)
        _check_shares('BatchRatioAllocation.floor', [self.floor])

    def check_rounds(self, rounds: int) -> None:
        _check_length('BatchRatioAllocation.thresholds', self.thresholds, rounds)
        _check_length('BatchRatioAllocation.caps', self.caps, rounds)

    def __call__(self, candidates: Candidates, round_index: int, training: bool) -> Tensor:
        above = candidates.scores > self.thresholds[round_index]
        if not training and self.inference == 'image':
            return above
        counts = candidates.counts
        share = segment_counts(above, candidates.offsets) / counts.clamp(min=1)
        common = share.max().clamp(min=self.floor)
        if training:
            common = common.clamp(max=self.caps[round_index])
        # float32 on purpose: so does the published code, off-by-one included.
        keep = (counts.to(torch.float32) * common.to(torch.float32)).to(torch.int64)
        return segment_top(candidates.scores, candidates.batch, candidates.offsets, keep)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(thresholds={self.thresholds}, caps={self.caps}, '
            f'floor={self.floor}, inference={self.inference!r})'
        )
