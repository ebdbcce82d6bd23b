"""From the seconds of single steps to figures that can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

#: Halves of the samples that differ by more are not to be trusted.
TOLERANCE = 0.05

#: Turns below which nothing can be said about halves.
FEWEST_TURNS = 4


@dataclass(frozen=True)
class Timing:
    """Seconds of all steps.

    Attributes:
        batch_size: images per step.
        turns: seconds of every step, turn by turn.
    """

    batch_size: int
    turns: tuple[tuple[float, ...], ...]

    @property
    def seconds(self) -> list[float]:
        """Of every step."""
        return [seconds for turn in self.turns for seconds in turn]

    @property
    def images_per_second(self) -> float:
        """Average over all steps."""
        return self.batch_size * len(self.seconds) / sum(self.seconds)

    @property
    def latency(self) -> float:
        """Median of the seconds of a step."""
        return median(self.seconds)

    @property
    def latency_95(self) -> float:
        """95th percentile of the seconds of a step."""
        return float(np.percentile(self.seconds, 95))


def speed_ratio(first: Timing, other: Timing) -> float:
    """How many times as fast as ``first``: the median over turns of their times' ratio.

    Both times of a turn were taken one after the other, so that what else the machine did met both;
    a turn that was disturbed for one of them alone is an outlier, which the median leaves out.
    """
    return median(_ratios(first, other))


def disagreement(first: Timing, other: Timing) -> float | None:
    """By what part the two halves of the samples disagree in the ratio; None for too few turns.

    For ``first`` itself in the time of a step.
    """
    values = _ratios(first, other) if other is not first else [*map(_mean, first.turns)]
    if len(values) < FEWEST_TURNS:
        return None
    middle = len(values) // 2
    one, two = median(values[:middle]), median(values[middle:])
    return max(one, two) / min(one, two) - 1


def split_turns(steps: int, most: int = 16) -> list[range]:
    """Steps divided into turns, all but equally long."""
    turns = min(steps, most)
    bounds = [steps * number // turns for number in range(turns + 1)]
    return [range(bounds[n], bounds[n + 1]) for n in range(turns)]


def _ratios(first: Timing, other: Timing) -> list[float]:
    return [_mean(a) / _mean(b) for a, b in zip(first.turns, other.turns, strict=True)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
