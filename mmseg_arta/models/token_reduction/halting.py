"""Halting policies: which tokens are predicted early and stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from mmseg.registry import MODELS
from torch import Tensor

from ..allocation.segments import segment_counts
from .output import StagePrediction


@runtime_checkable
class HaltingPolicy(Protocol):
    """What the backbone asks of a policy."""

    def __call__(
        self, confidence: Tensor, classes: Tensor, image: Tensor, num_classes: int
    ) -> Tensor:
        """``(A,)`` bool, whether a token goes on.

        Args:
            confidence: ``(A,)`` float32 of every active token.
            classes: ``(A,)`` int64 predicted class.
            image: ``(A,)`` int64 image of every token.
            num_classes: classes are below it.
        """
        ...


@MODELS.register_module()
class ConfidenceHalting:
    """Tokens above a confidence stop; the surest few of every class go on (DToP 3.2).

    Args:
        threshold: tokens with a larger confidence stop; 1 stops none.
        keep_per_class: of the confident tokens of a class in an image, so many of the most
            confident ones go on, to keep its context.
    """

    def __init__(self, threshold: float = 0.95, keep_per_class: int = 5) -> None:
        if threshold < 0:
            raise ValueError(f'ConfidenceHalting.threshold must not be negative, found {threshold}')
        if keep_per_class < 0:
            raise ValueError(
                f'ConfidenceHalting.keep_per_class must not be negative, found {keep_per_class}'
            )
        self.threshold, self.keep_per_class = float(threshold), int(keep_per_class)

    def __call__(
        self, confidence: Tensor, classes: Tensor, image: Tensor, num_classes: int
    ) -> Tensor:
        sure = confidence > self.threshold
        # Confident tokens of an image and class in descending order, the others behind them.
        by_confidence = torch.where(sure, -confidence, 1.0).argsort(stable=True)
        group = (image * num_classes + classes).index_select(0, by_confidence)
        order = by_confidence.index_select(0, group.argsort(stable=True))
        group = (image * num_classes + classes).index_select(0, order)
        number = torch.arange(len(order), device=order.device)
        first = torch.searchsorted(group, group)
        among_best = torch.empty_like(sure).scatter_(0, order, number - first < self.keep_per_class)
        return ~sure | among_best

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(threshold={self.threshold}, '
            f'keep_per_class={self.keep_per_class})'
        )


def confidences(class_logits: Tensor, mask_logits: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Confidence of tokens: the largest product of class and mask probability (DToP 3.2).

    Args:
        class_logits: ``(B, Q, 2)``: present, absent.
        mask_logits: ``(A, Q)``.
        image: ``(A,)`` int64 image of every token.

    Returns:
        ``(A,)`` float32 and the class ``(A,)`` int64 it belongs to.
    """
    present = class_logits.float().softmax(-1)[..., 0]
    scores = present.index_select(0, image) * mask_logits.float().sigmoid()
    best = scores.max(1)
    return best.values, best.indices


def kept_lengths(keep: Tensor, offsets: Tensor) -> tuple[int, ...]:
    """Tokens per image that go on; the one host read of a halting point.

    Args:
        keep: ``(A,)`` bool.
        offsets: ``(B + 1,)`` row offsets of the active tokens.
    """
    return tuple(int(count) for count in segment_counts(keep, offsets).tolist())


def join_masks(
    mask_logits: Tensor, rows: Tensor | None, earlier: Sequence[StagePrediction]
) -> Tensor:
    """Mask logits ``(T, Q)`` of all tokens: new ones of active tokens, old ones of halted ones.

    Args:
        mask_logits: ``(A, Q)`` of the active tokens.
        rows: their rows in the layout; ``None`` for all.
        earlier: predictions so far.
    """
    if rows is None:
        return mask_logits
    before = earlier[-1].mask_logits
    return before.index_copy(0, rows, mask_logits.to(before.dtype))
