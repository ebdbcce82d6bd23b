"""Random selection on a schedule: the policy of ImageNet pre-training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ....option_checks import check_number, check_numbers
from .base import AllocationPolicy, Candidates, check_shares, share_on_host, top_share


@MODELS.register_module()
class RandomAllocation(AllocationPolicy):
    """A share of the tokens drawn at random, falling linearly over training (DUPS appendix A).

    The share is that of all rounds. ``AllocationProgressHook`` tells the policy how far the
    training is, from the runner's iteration count, so that a resumed run goes on where it
    stopped; without the hook the share stays at the start of the schedule.

    Args:
        schedule: share at the beginning and at the end of training.
        inference: share at inference; that of the end of training by default.
    """

    scheduled = True
    uses_scores = False

    def __init__(
        self, schedule: Sequence[float] = (1.0, 0.5), inference: float | None = None
    ) -> None:
        self.schedule = check_numbers(self, schedule=schedule)
        check_number(self, optional=True, inference=inference)
        if len(self.schedule) != 2:
            raise ValueError(
                'RandomAllocation.schedule must hold the share at the beginning and at the end '
                f'of training, found {list(schedule)}'
            )
        check_shares('RandomAllocation.schedule', self.schedule)
        self.inference = self.schedule[1] if inference is None else float(inference)
        check_shares('RandomAllocation.inference', [self.inference])
        self.progress = 0.0

    def set_progress(self, progress: float) -> None:
        """Set how far training is, 0 at its beginning and 1 at its end.

        Raises:
            ValueError: for a number outside [0, 1].
        """
        if not 0.0 <= progress <= 1.0:
            raise ValueError(
                f'RandomAllocation: progress of training must be in [0, 1], found {progress}'
            )
        self.progress = float(progress)

    def share(self, training: bool) -> float:
        """Share of the candidates that is refined now."""
        begin, end = self.schedule
        return begin + (end - begin) * self.progress if training else self.inference

    def host_counts(
        self, candidates: Candidates, round_index: int, training: bool
    ) -> tuple[int, ...] | None:
        return share_on_host(candidates, self.share(training))

    def __call__(self, candidates: Candidates, round_index: int, training: bool) -> Tensor:
        # Drawn even when all are taken: the state of the generator shall not depend on it.
        draws = torch.rand_like(candidates.scores)
        return top_share(draws, candidates, self.share(training))

    def __repr__(self) -> str:
        return f'{type(self).__name__}(schedule={self.schedule}, inference={self.inference})'
