"""What a plain Vision Transformer with token reduction hands to its head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .layout import TokenLayout


@dataclass(frozen=True)
class ActiveTokens:
    """Features of the tokens that a stage still computes, packed.

    Attributes:
        feats: ``(A, C)``.
        rows: ``(A,)`` int64 ascending rows in the layout; ``None`` when none has left.
        lengths: active tokens per image, on the host.
    """

    feats: Tensor
    rows: Tensor | None
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class StagePrediction:
    """Prediction of a head at a halting point, or at the end (DToP 3.2).

    Attributes:
        class_logits: ``(B, Q, 2)``: class present, class absent.
        mask_logits: ``(T, Q)`` of every token of the layout: a halted token keeps the logits of
            the stage where it left.
        lengths: tokens per image that the stage's head saw.
        kept: tokens per image that go on; equal to ``lengths`` at the end.
        rows: ``(A,)`` rows of the tokens that go on; ``None`` for all.
    """

    class_logits: Tensor
    mask_logits: Tensor
    lengths: tuple[int, ...]
    kept: tuple[int, ...]
    rows: Tensor | None


@dataclass(frozen=True)
class ReducedTokens(Sequence):
    """Output of :class:`~mmseg_arta.models.backbones.StepViT`; a sequence of its stages.

    Attributes:
        layout: the supertokens of the batch.
        stages: tokens after every block of ``out_indices``.
        halts: predictions at the halting points, shallow to deep.
    """

    layout: TokenLayout
    stages: tuple[ActiveTokens, ...]
    halts: tuple[StagePrediction, ...] = ()

    def __len__(self) -> int:
        return len(self.stages)

    def __getitem__(self, index: int) -> ActiveTokens:
        return self.stages[index]
