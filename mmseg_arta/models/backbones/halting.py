"""Halting points inside a plain Vision Transformer (DToP 3, STEP 3.2.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule, ModuleList
from mmseg.registry import MODELS
from torch import Tensor

from ...structures import offsets_from_lengths
from ...structures.token_set import batch_index
from ..token_reduction import (
    ActiveTokens,
    HaltingPolicy,
    StagePrediction,
    TokenLayout,
    confidences,
    join_masks,
    kept_lengths,
    true_rows,
)


class HaltingPoints(BaseModule):
    """Heads after given blocks that predict all active tokens, and a policy that stops some.

    Args:
        depth: blocks of the backbone.
        after: how many blocks run before each halting point, ascending, e.g. ``(8, 16)``.
        head: config of the head, one of which is built per point: a module that maps
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
        super().__init__()
        self.after = tuple(after)
        if (
            not self.after
            or sorted(set(self.after)) != list(self.after)
            or not (1 <= self.after[0] <= self.after[-1] < depth)
        ):
            raise ValueError(
                f'halting.after must ascend within 1 to {depth - 1}, found {self.after}'
            )
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
            keep = self.policy(sure, classes, image, mask_logits.shape[1])
            kept = kept_lengths(keep, offsets)
        if kept != tokens.lengths:
            stay = true_rows(keep, sum(kept))
            feats = feats.index_select(0, stay)
            rows = stay if rows is None else rows.index_select(0, stay)
        record = StagePrediction(class_logits, joined, tokens.lengths, kept, rows)
        return record, ActiveTokens(feats, rows, kept)


def _of_tokens(values: Tensor, layout: TokenLayout, rows: Tensor | None) -> Tensor:
    """Values ``(B, rows, columns)`` of the patches at the active tokens' top-left patches."""
    image, place = layout.batch_index(), layout.places
    found = values.to(place.device).float()[image, place[:, 0], place[:, 1]]
    return found if rows is None else found.index_select(0, rows)
