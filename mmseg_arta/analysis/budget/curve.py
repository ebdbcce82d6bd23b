"""Accuracy, operations and time of one checkpoint under budgets of tokens."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from torch import Tensor

from ...models.allocation import AllocationPolicy
from ...models.allocation.policies import BudgetAllocation
from ...models.allocation.policies.base import Candidates
from ..class_names import classes_of
from ..flops.count import allocating_modules, other_policies
from ..tokens import Spread, analyze
from ..visualization import sample_of

#: Who gets finer tokens within the budget: the highest predicted scores, or anyone.
CHOICES = ('scores', 'random')

# A token has four children, three times over.
_ALL_PER_COARSE = 1 + 4 + 16 + 64


class ShareOfTokens(AllocationPolicy):
    """A share of all the tokens that an image can have, chosen by scores or at random.

    Rounds share the budget as in :class:`~mmseg_arta.models.BudgetAllocation`, so scores and
    chance get equally many tokens of every size.

    Args:
        share: in (0, 1]; what the coarse tokens of an image take is spent in any case.
        choice: of :data:`CHOICES`.
        shape: see :class:`~mmseg_arta.models.BudgetAllocation`.
        seed: of the chance.

    Raises:
        ValueError: for another share or choice.
    """

    def __init__(
        self,
        share: float,
        choice: str = 'scores',
        shape: Sequence[float] = (0.85, 0.7, 0.6),
        seed: int = 0,
    ) -> None:
        if not 0.0 < share <= 1.0:
            raise ValueError(f'a share of the tokens must be above 0 and at most 1, found {share}')
        if choice not in CHOICES:
            raise ValueError(f'choice must be one of {", ".join(CHOICES)}, found {choice!r}')
        self.share, self.choice = share, choice
        self.policy = BudgetAllocation(tokens=1, shape=shape)
        self.parts = (self.policy,)
        self._generator = torch.Generator().manual_seed(seed)

    def host_counts(
        self, candidates: Candidates, round_index: int, training: bool
    ) -> tuple[int, ...] | None:
        self._set_budget(candidates, round_index)
        return self.policy.host_counts(candidates, round_index, training)

    def __call__(self, candidates: Candidates, round_index: int, training: bool) -> Tensor:
        self._set_budget(candidates, round_index)
        if self.choice == 'random':
            scores = torch.rand(len(candidates.scores), generator=self._generator)
            candidates = replace(candidates, scores=scores.to(candidates.scores))
        return self.policy(candidates, round_index, training)

    def _set_budget(self, candidates: Candidates, round_index: int) -> None:
        # All images of a batch have one size.
        if round_index == 0:
            coarse = candidates.lengths[0]
            self.policy.tokens = max(math.floor(self.share * coarse * _ALL_PER_COARSE), coarse)

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.share}, {self.choice!r})'


@dataclass(frozen=True)
class Point:
    """A budget and what came of it.

    Attributes:
        choice: of :data:`CHOICES`; 'model' for the model's own policy.
        share: of all tokens that the images can have; what was spent, for the model's own policy.
        tokens: of an image, or of a window in slide inference; mean.
        gmacs: 10^9 multiply-accumulates of an image as executed; mean.
        ms: of an image, median; NaN if it was not measured.
        miou: in percent.
        near: mIoU in percent over pixels less than 4 px from a class boundary.
    """

    choice: str
    share: float
    tokens: float
    gmacs: float
    ms: float
    miou: float
    near: float


def measure(
    model: BaseModel,
    dataset: Any,
    numbers: Sequence[int],
    shares: Sequence[float],
    choices: Sequence[str] = CHOICES,
    timed: int = 5,
    clock: Callable[[], float] = time.perf_counter,
    tell: Callable[[Point], None] | None = None,
) -> list[Point]:
    """The model's own policy, then every share by every choice.

    Args:
        model: a segmentor in eval mode that allocates tokens, windows one by one.
        dataset: with ground truth.
        numbers: which of its images.
        shares: of all tokens, each in (0, 1].
        choices: of :data:`CHOICES`.
        timed: images that are timed, the first ones, after a first one to warm up; 0 for none.
        clock: seconds; of the process or of the wall.
        tell: is told every point when it is there.

    Raises:
        ValueError: if the model allocates no tokens, or there is no ground truth.
    """
    modules = allocating_modules(model)
    if not modules:
        raise ValueError(
            f'budgets need a model that allocates tokens by a policy (such as ARTA), found none in '
            f'{type(model).__name__}'
        )
    points: list[Point] = []

    def add(policy: ShareOfTokens | None) -> None:
        points.append(_point(model, dataset, numbers, policy, timed, clock))
        if tell is not None:
            tell(points[-1])

    add(None)
    for choice in choices:
        for share in shares:
            policy = ShareOfTokens(share, choice)
            with other_policies(modules, lambda own, policy=policy: policy):
                add(policy)
    return points


def _point(
    model: BaseModel,
    dataset: Any,
    numbers: Sequence[int],
    policy: ShareOfTokens | None,
    timed: int,
    clock: Callable[[], float],
) -> Point:
    classes = len(classes_of(dataset.metainfo))
    found = analyze(model, (sample_of(dataset, number) for number in numbers), classes)
    if found.quality is None:
        raise ValueError('the data set has no ground truth to compare with')
    counts = [sum(image.counts.values()) for image in found.images]
    most = [image.counts['32 px'] * _ALL_PER_COARSE for image in found.images]
    means = found.quality.table().means()
    return Point(
        'model' if policy is None else policy.choice,
        sum(counts) / sum(most) if policy is None else policy.share,
        Spread.of(counts).mean,
        Spread.of(found.gmacs).mean,
        _milliseconds(model, dataset, numbers[:timed], clock),
        means['IoU'],
        means['IoU within 4 px'],
    )


@torch.no_grad()
def _milliseconds(
    model: BaseModel, dataset: Any, numbers: Sequence[int], clock: Callable[[], float]
) -> float:
    found = []
    for number in [*numbers[:1], *numbers]:
        batch = pseudo_collate([sample_of(dataset, number)])
        begin = clock()
        result = model.test_step(batch)
        # The labels are on the host only when they are known.
        result[0].pred_sem_seg.data.cpu()
        found.append(1000 * (clock() - begin))
    later = sorted(found[1:])
    return later[len(later) // 2] if later else math.nan
