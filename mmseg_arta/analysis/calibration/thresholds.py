"""Thresholds on boundary scores that spend a given budget on average."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from torch import Tensor, nn

from ...models.allocation import ThresholdAllocation
from ...models.segmentors.windows import slide_corners
from ...structures import MixedTokens

#: What one forward pass of a backbone cost: images (1, 3, H, W) in, tokens out.
Cost = Callable[[Tensor, MixedTokens], float]

_WIDEST = 1e6  # the factor on the thresholds is searched between its inverse and this


def token_cost(image: Tensor, tokens: MixedTokens) -> float:
    """Tokens of all levels of a pass over one image."""
    return float(sum(len(level) for level in tokens.levels))


class BackboneInputs:
    """What a segmentor's backbone sees of a data set: preprocessed images, or their windows.

    Args:
        model: a segmentor; its slide mode decides about windows.
        dataset: items as a test pipeline packs them.
        rows: which items.
    """

    def __init__(self, model: BaseModel, dataset: Any, rows: Sequence[int]) -> None:
        self.model, self.dataset, self.rows = model, dataset, list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[list[Tensor]]:
        """The passes of each image, ``(1, 3, h, w)`` each."""
        test_cfg = self.model.test_cfg or {}
        for row in self.rows:
            batch = pseudo_collate([self.dataset[row]])
            image = self.model.data_preprocessor(batch, False)['inputs']
            if test_cfg.get('mode') != 'slide':
                yield [image]
                continue
            crop, stride = tuple(test_cfg['crop_size']), tuple(test_cfg['stride'])
            corners = slide_corners(tuple(image.shape[2:]), crop, stride)
            yield [image[:, :, y : y + crop[0], x : x + crop[1]] for y, x in corners]


@dataclass(frozen=True)
class ThresholdSearch:
    """What :func:`calibrate_thresholds` found.

    Attributes:
        thresholds: one per allocation round.
        cost: mean cost per pass with them, at most the budget.
        cheapest, dearest: mean cost when nothing and when all is refined.
    """

    thresholds: tuple[float, ...]
    cost: float
    cheapest: float
    dearest: float


@torch.no_grad()
def calibrate_thresholds(
    backbone: nn.Module,
    inputs: Callable[[], Iterator[list[Tensor]]],
    budget: float,
    start: Sequence[float] = (0.005, 0.01, 0.02),
    cost: Cost = token_cost,
    tolerance: float = 0.01,
    steps: int = 16,
) -> ThresholdSearch:
    """Scale thresholds by a common factor until passes cost as much as a budget on average.

    Finer rounds decide about what coarser ones refined, so the cost follows from running the
    backbone; it falls as the factor grows, which is found by bisection.

    Args:
        backbone: with an allocation ``policy``, trained; put in eval mode meanwhile.
        inputs: gives the passes of each image anew at every call.
        budget: mean cost per pass that must not be exceeded.
        start: thresholds whose ratios are kept, one per round, all positive.
        cost: of one pass; tokens by default.
        tolerance: stop when the cost is at most this share below the budget.
        steps: bisection steps at most.

    Raises:
        ValueError: if the budget is below the cost without any refinement, or a threshold
            is not positive.
    """
    start = tuple(float(value) for value in start)
    if min(start) <= 0:
        raise ValueError(f'thresholds to scale must be positive, found {list(start)}')
    training = backbone.training
    backbone.eval()

    def mean_cost(factor: float) -> float:
        thresholds = tuple(value * factor for value in start)
        with _policy(backbone, ThresholdAllocation(thresholds)):
            found = [cost(image, backbone(image)) for passes in inputs() for image in passes]
        if not found:
            raise ValueError('there are no images to calibrate thresholds on')
        return sum(found) / len(found)

    try:
        cheapest, dearest = mean_cost(math.inf), mean_cost(-math.inf)
        if budget < cheapest:
            raise ValueError(
                f'the budget of {budget:g} is below what passes cost without any finer token: '
                f'{cheapest:g} on average'
            )
        low, high = 1 / _WIDEST, _WIDEST
        best, best_cost = high, mean_cost(high)
        if best_cost > budget:
            raise ValueError(f'scores above {min(start) * high:g} remain: is the model trained?')
        for _ in range(steps):
            if best_cost >= budget * (1 - tolerance):
                break
            middle = math.sqrt(low * high)
            found = mean_cost(middle)
            if found <= budget:
                high, best, best_cost = middle, middle, found
            else:
                low = middle
    finally:
        backbone.train(training)
    return ThresholdSearch(tuple(value * best for value in start), best_cost, cheapest, dearest)


@contextmanager
def _policy(backbone: nn.Module, policy: object) -> Iterator[None]:
    before = backbone.policy
    backbone.policy = policy
    try:
        yield
    finally:
        backbone.policy = before
