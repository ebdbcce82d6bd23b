"""What an encoder asks of an allocation policy, and what it tells it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ....structures.host_values import are_numbers, on_device
from ..segments import segment_top


@dataclass(frozen=True)
class Candidates:
    """Tokens that one allocation round decides about.

    Attributes:
        scores: ``(N,)`` float32 boundary scores without gradient, raster order per image.
        batch: ``(N,)`` int64 image of each candidate.
        offsets: ``(B + 1,)`` int32 row offsets.
        lengths: candidates per image.
        level: ``(N,)`` int64 level of each candidate, 0 for the coarsest, where a round also
            decides about coarser tokens than the finest; coarse before fine per image. None:
            all are of the level with the round's index.
        present: tokens ``[level][image]`` that exist already, candidates among them; empty if
            the encoder does not tell.
        truth: ``(N,)`` float32 true boundary shares of the candidates' patches, where the
            encoder was given ground truth.
    """

    scores: Tensor
    batch: Tensor
    offsets: Tensor
    lengths: tuple[int, ...]
    level: Tensor | None = None
    present: tuple[tuple[int, ...], ...] = ()
    truth: Tensor | None = None

    @property
    def counts(self) -> Tensor:
        """``(B,)`` int64 candidates per image, on the device."""
        return (self.offsets[1:] - self.offsets[:-1]).to(torch.int64)

    def above(self, thresholds: Sequence[float], round_index: int) -> Tensor:
        """``(N,)`` bool, whose score exceeds the threshold of its own level."""
        if self.level is None:
            return self.scores > thresholds[round_index]
        limits = torch.tensor(thresholds, dtype=self.scores.dtype, device=self.scores.device)
        return self.scores > limits[self.level]


class AllocationPolicy(ABC):
    """What an encoder asks of a policy. A policy must choose; all else has a default.

    Attributes:
        parts: the policies that it is made of.
        caps: largest share of the candidates that a round refines in training, one per round;
            None if nothing limits it. Operations are counted at these shares.
        scheduled: whether it wants to know how far training is, see :meth:`set_progress`.
        uses_scores: whether scores decide. Encoders without score predictors take no others.
    """

    parts: tuple[AllocationPolicy, ...] = ()
    caps: tuple[float, ...] | None = None
    scheduled: bool = False
    uses_scores: bool = True

    @abstractmethod
    def __call__(self, candidates: Candidates, round_index: int, training: bool) -> Tensor:
        """``(N,)`` bool on the device of the scores, without reading any value on the host.

        Args:
            candidates: tokens to decide about.
            round_index: 0 for the first round.
            training: whether the encoder is in training mode.
        """

    def host_counts(
        self, candidates: Candidates, round_index: int, training: bool
    ) -> tuple[int, ...] | None:
        """How many candidates of every image the same call will select, if the host knows that.

        Encoders then need not wait for the device, whose scores say which candidates these are.

        Args:
            candidates, round_index, training: as in a call.

        Returns:
            one number per image; None if it depends on values on the device.
        """
        return None

    def check_rounds(self, rounds: int) -> None:
        """Raise ValueError if the policy is not set up for this number of rounds."""
        for part in self.parts:
            part.check_rounds(rounds)

    def reconsiders(self, training: bool) -> bool:
        """Whether later rounds shall also decide about coarser tokens that were not refined."""
        return False

    def set_progress(self, progress: float) -> None:  # noqa: B027 (optional)
        """Learn how far training is, 0 at its beginning and 1 at its end.

        ``AllocationProgressHook`` tells every part that is ``scheduled``.
        """

    def walk(self) -> Iterator[AllocationPolicy]:
        """The policy and all that it is made of."""
        yield self
        for part in self.parts:
            yield from part.walk()


def check_length(name: str, values: Sequence[float], rounds: int) -> None:
    """Raise ValueError unless there is one value per allocation round."""
    if len(values) != rounds:
        raise ValueError(
            f'{name} must hold one value per allocation round: expected {rounds}, '
            f'found {len(values)} ({list(values)})'
        )


def check_shares(name: str, values: Sequence[float]) -> None:
    """Raise ValueError unless all values are shares in [0, 1]."""
    for value in values:
        if not 0.0 <= value <= 1.0:
            raise ValueError(f'{name} must be shares in [0, 1], found {list(values)}')


# A share like 0.29 has no exact binary form: without the margin 100 tokens would give 28.
_MARGIN = 1e-6


def share_of(counts: Tensor, share: float) -> Tensor:
    """``floor(counts * share)``, int64, of the exact product."""
    return (counts.to(torch.float64) * share + _MARGIN).floor().to(torch.int64)


def share_on_host(candidates: Candidates, share: float) -> tuple[int, ...] | None:
    """The same for the candidates of every image, on the host; None if it has symbols."""
    if not are_numbers(candidates.lengths):
        return None
    return tuple(math.floor(length * share + _MARGIN) for length in candidates.lengths)


def top_share(scores: Tensor, candidates: Candidates, share: float) -> Tensor:
    """``(N,)`` bool, the highest ``scores (N,)`` of every image, so large a share of them."""
    known = share_on_host(candidates, share)
    keep = share_of(candidates.counts, share) if known is None else on_device(known, scores.device)
    return segment_top(scores, candidates.batch, candidates.offsets, keep)
