"""Halting: auxiliary heads predict tokens early, and the confident ones stop (DToP 3, STEP 3.2.2).

STEP calls this early pruning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from mmengine.model import BaseModule, ModuleList
from mmseg.registry import MODELS
from torch import Tensor

from ...option_checks import MOST_LAYERS, check_ascending, check_config, check_number, check_whole
from ...structures import host_sizes, offsets_from_lengths
from ...structures.token_set import batch_index
from ..allocation.segments import segment_counts
from .tokens import ActiveTokens, StagePrediction, TokenLayout, true_rows


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
    """Tokens above a confidence stop; the surest few of every class go on (DToP 3.2, STEP eq. 4).

    Args:
        threshold: tokens with a larger confidence stop; 1 stops none.
        keep_per_class: of the confident tokens of a class in an image, so many of the most
            confident ones go on, to keep its context.
    """

    def __init__(self, threshold: float = 0.95, keep_per_class: int = 5) -> None:
        check_number(self, 0.0, threshold=threshold)
        check_whole(self, 0, keep_per_class=keep_per_class)
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


class HaltingPoints(BaseModule):
    """Auxiliary heads after given blocks, and a policy that lets confident tokens stop there.

    Args:
        depth: blocks of the backbone.
        after: how many blocks run before each halting point, ascending, e.g. ``(8, 16)``.
        head: config of the auxiliary head, one of which is built per point: a module that maps
            :class:`ActiveTokens` and the layout to class logits ``(B, Q, 2)`` and mask logits
            ``(A, Q)``, see :class:`~mmseg_arta.models.decode_heads.ATMTokenClassifier`.
        policy: config of a :class:`HaltingPolicy`.

    Raises:
        ValueError: for halting points that do not ascend within the backbone.
    """

    def __init__(
        self,
        depth: int,
        after: Sequence[int],
        head: Mapping[str, Any],
        policy: Mapping[str, Any],
    ) -> None:
        check_whole('halting', 2, MOST_LAYERS, depth=depth)
        blocks = check_ascending('halting', 1, depth - 1, after=after)
        check_config('halting', ('type',), head=head, policy=policy)
        super().__init__()
        self.after = blocks
        self.heads = ModuleList(MODELS.build(dict(head)) for _ in self.after)
        self.policy: HaltingPolicy = MODELS.build(dict(policy))

    def forward(
        self,
        point: int,
        tokens: ActiveTokens,
        layout: TokenLayout,
        earlier: Sequence[StagePrediction],
        given: Tensor | None = None,
    ) -> tuple[StagePrediction, ActiveTokens]:
        """Predict the active tokens and let some of them stop; reads the device once.

        Args:
            point: number of the halting point.
            tokens: the active tokens.
            layout: all tokens.
            earlier: predictions of the points before.
            given: ``(B, rows, columns)`` confidence to use instead of the head's.

        Returns:
            the prediction, and the tokens that go on.
        """
        class_logits, mask_logits = self.heads[point](tokens, layout)
        joined = join_masks(mask_logits, tokens.rows, earlier)
        rows, kept, feats = tokens.rows, tokens.lengths, tokens.feats
        with torch.no_grad():
            offsets = offsets_from_lengths(tokens.lengths, feats.device)
            image = batch_index(offsets, len(feats))
            sure, classes = confidences(class_logits, mask_logits, image)
            if given is not None:
                sure = _of_tokens(given, layout, rows)
            keep = self.policy(sure, classes, image, host_sizes(mask_logits)[1])
            kept = kept_lengths(keep, offsets)
        if kept != tokens.lengths:
            stay = true_rows(keep, sum(kept))
            feats = feats.index_select(0, stay)
            rows = stay if rows is None else rows.index_select(0, stay)
        record = StagePrediction(class_logits, joined, tokens.lengths, kept, rows)
        return record, ActiveTokens(feats, rows, kept)


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


def _of_tokens(values: Tensor, layout: TokenLayout, rows: Tensor | None) -> Tensor:
    """Values ``(B, rows, columns)`` of the patches at the active tokens' top-left patches."""
    image, place = layout.batch_index(), layout.places
    found = values.to(place.device).float()[image, place[:, 0], place[:, 1]]
    return found if rows is None else found.index_select(0, rows)
