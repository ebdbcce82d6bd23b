"""Running a model over images and gathering what its tokens do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from ...models.token_reduction import ReducedTokens, ThresholdMerging
from ..flops.counter import OperatorCounter
from .record import TokenUse, TokenWatch

#: Called with the number of the image, the backbone's input and its tokens.
Picture = Callable[[int, Tensor, ReducedTokens], None]


@dataclass(frozen=True)
class Analysis:
    """What :func:`analyze` finds.

    Attributes:
        uses: tokens of every image; of every window in slide inference.
        gmacs: 10^9 multiply-accumulates of every image as executed, post-processing included.
        metrics: of the evaluator, if one was given.
    """

    uses: tuple[TokenUse, ...]
    gmacs: tuple[float, ...]
    metrics: dict[str, float]


@torch.no_grad()
def analyze(
    model: nn.Module,
    samples: Iterable[Mapping[str, Any]],
    evaluator: Any | None = None,
    picture: Picture | None = None,
) -> Analysis:
    """Test images one by one, counting tokens and operations.

    Args:
        model: a segmentor in eval mode with a :class:`~mmseg_arta.models.StepViT`.
        samples: of a test data set, in its order.
        evaluator: of mmengine; judges the predictions.
        picture: draws.

    Raises:
        ValueError: if there are no samples.
    """
    uses: list[TokenUse] = []
    gmacs = []
    with TokenWatch().on(model) as watch:
        for number, sample in enumerate(samples):
            batch = pseudo_collate([sample])
            with OperatorCounter(model) as counter:
                found = model.test_step(batch)
            gmacs.append(sum(counter.operators.values()) / 1e9)
            for image, tokens in watch.take():
                uses.extend(TokenUse.of(tokens))
                if picture is not None:
                    picture(number, image, tokens)
            if evaluator is not None:
                evaluator.process(data_samples=found, data_batch=batch)
    if not gmacs:
        raise ValueError('there are no images to analyse')
    metrics = {} if evaluator is None else evaluator.evaluate(len(gmacs))
    return Analysis(tuple(uses), tuple(gmacs), dict(metrics))


def set_thresholds(model: nn.Module, thresholds: Mapping[int, float]) -> None:
    """Let a dCTS model merge groups of these sizes by these thresholds.

    Args:
        model: a segmentor.
        thresholds: group side in patches to threshold.

    Raises:
        ValueError: if its backbone does not merge by thresholds, or its policy network scores no
            groups of such a size.
    """
    backbone = model.backbone
    if not isinstance(getattr(backbone, 'merging', None), ThresholdMerging):
        raise ValueError('thresholds need a backbone with ThresholdMerging (dCTS or STEP)')
    policy = ThresholdMerging({str(size): value for size, value in thresholds.items()})
    backbone.policy_net.check_sizes(policy.group_sizes, backbone.patch_size)
    backbone.merging = policy
