"""Final head behind a backbone with halting points: joins the predictions of all stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmseg.registry import MODELS
from torch import Tensor

from ...token_reduction import ReducedTokens, TokenLayout, join_masks
from .base import ATMBase, Prediction, upsample
from .token_classifier import ATMTokenClassifier


@MODELS.register_module()
class HaltingATMHead(ATMBase):
    """Predicts the tokens that reached the end, and joins those that stopped (DToP 3.3).

    A halted token keeps the mask logits of the stage where it stopped; the class probabilities
    are the final head's for all. Every stage has a loss on its own joined prediction, so the
    heads inside the backbone need no auxiliary head.

    Args:
        in_channels, channels, num_classes, patch_size, loss, ignore_index, align_corners,
        init_cfg: see :class:`~.base.ATMBase`.
        num_layers, num_heads, self_attention, dropout, weigh_areas: see
            :class:`~.token_classifier.ATMTokenClassifier`; STEP's baseline has no self-attention.
    """

    def __init__(
        self,
        in_channels: int = 768,
        channels: int = 384,
        num_classes: int = 150,
        num_layers: int = 3,
        num_heads: int = 12,
        self_attention: bool = True,
        dropout: float = 0.1,
        weigh_areas: bool = True,
        patch_size: int = 16,
        loss: Mapping[str, Any] | None = None,
        ignore_index: int = 255,
        align_corners: bool = False,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            channels,
            num_classes,
            'presence',
            patch_size,
            1,
            loss,
            ignore_index,
            align_corners,
            init_cfg,
        )
        self.classifier = ATMTokenClassifier(
            in_channels,
            channels,
            num_classes,
            num_layers,
            num_heads,
            self_attention,
            dropout,
            weigh_areas,
        )

    def predictions(self, tokens: ReducedTokens) -> list[Prediction]:
        """One per halting point, and the final one, see :class:`~.base.ATMBase`.

        Raises:
            ValueError: if a halting point predicts another number of classes.
        """
        for halt in tokens.halts:
            found = halt.mask_logits.shape[1]
            if found != self.num_classes:
                raise ValueError(
                    f'HaltingATMHead.num_classes is {self.num_classes}, but a head of '
                    f'backbone.halting predicts {found} classes'
                )
        last = tokens.stages[-1]
        class_logits, logits = self.classifier(last, tokens.layout)
        joined = join_masks(logits, last.rows, tokens.halts)
        halted = [(halt.class_logits, halt.mask_logits) for halt in tokens.halts]
        return [*halted, (class_logits, joined)]

    def probabilities(self, cells: Tensor, layout: TokenLayout) -> Tensor:
        """As published, probabilities are resized here, not logits: see :class:`~.base.ATMBase`."""
        return upsample(cells.sigmoid(), layout)
