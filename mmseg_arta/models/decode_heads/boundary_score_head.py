"""Auxiliary head that teaches the allocator where class boundaries are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor

from ...ops import at_patches, boundary_map, boundary_targets, patch_share
from ...option_checks import (
    MOST_WEIGHT,
    MOST_WHOLE,
    check_choice,
    check_flag,
    check_init_cfg,
    check_number,
    check_whole,
)
from ...structures import AllocationRound, tokens_of
from .data_samples import check_label_size, mark_padding, stack_labels
from .stock_options import refuse_stock_options

_LOSSES = {'mse': F.mse_loss, 'mae': F.l1_loss}


@MODELS.register_module()
class BoundaryScoreHead(BaseModule):
    """Boundary-score loss of all allocation rounds (ARTA 3.3.1, DUPS 3.2.1).

    An ``auxiliary_head`` of the stock ``EncoderDecoder``, behind a sparse backbone or
    behind ``TokensToMaps``. It has no parameters: the scores are those the backbone
    chose its tokens by. Targets are the shares of class-boundary pixels per patch,
    made from ``gt_sem_seg``. A round's loss is the mean over all its candidates in the
    batch, without those whose patch is wholly ignored; rounds are summed. Padding of a crop has
    no boundary, so that no tokens are spent on it. Coarser candidates that later rounds
    reconsider have losses of their own.

    Args:
        loss_weight: weight of every round.
        loss: 'mse' as in the papers, or 'mae'.
        ignore_index: label of ignored pixels.
        ignore_as_class: treat ignored regions as the published code does, see
            :func:`mmseg_arta.ops.boundary_map`.
        init_cfg: accepted for uniformity; there is nothing to initialise.

    Raises:
        ValueError: for an unknown loss.
    """

    def __init__(
        self,
        loss_weight: float = 10.0,
        loss: str = 'mse',
        ignore_index: int = 255,
        ignore_as_class: bool = False,
        init_cfg: Mapping[str, Any] | None = None,
        **stock: Any,
    ) -> None:
        refuse_stock_options(
            self,
            stock,
            loss_decode='set loss and loss_weight',
            num_classes='it has no classes: leave it out',
            align_corners='nothing is resized: leave it out',
            out_channels='it has no classes: leave it out',
        )
        check_init_cfg(self, init_cfg)
        check_number(self, 0.0, MOST_WEIGHT, loss_weight=loss_weight)
        check_choice(self, sorted(_LOSSES), loss=loss)
        check_whole(self, -MOST_WHOLE, ignore_index=ignore_index)
        check_flag(self, ignore_as_class=ignore_as_class)
        super().__init__(init_cfg)
        self.loss_weight = loss_weight
        self.loss_name = loss
        self.ignore_index = ignore_index
        self.ignore_as_class = ignore_as_class

    def loss(
        self,
        inputs: object,
        batch_data_samples: Sequence[Any],
        train_cfg: Mapping[str, Any] | None = None,
    ) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            inputs: ``MixedTokens`` or the output of ``TokensToMaps``.
            batch_data_samples: samples with ``gt_sem_seg``.
            train_cfg: unused.

        Returns:
            ``loss_boundary_<number>`` for every entry of ``MixedTokens.rounds``, counted from 1:
            the allocation rounds, and behind them with ``ReconsideringAllocation`` the coarser
            candidates that later rounds decided about.

        Raises:
            ValueError: if labels and images differ in size.
        """
        tokens = tokens_of(inputs)
        labels = stack_labels(batch_data_samples)
        check_label_size('BoundaryScoreHead', labels, tokens.image_size)
        edges = boundary_map(labels, self.ignore_index, self.ignore_as_class)
        # Labels of padding are ignored ones, but there the answer is known.
        seen = mark_padding(labels != self.ignore_index, batch_data_samples)
        return {
            f'loss_boundary_{number}': self.loss_weight * self._round_loss(record, edges, seen)
            for number, record in enumerate(tokens.rounds, 1)
        }

    def _round_loss(self, record: AllocationRound, edges: Tensor, seen: Tensor) -> Tensor:
        images = torch.arange(len(record.lengths), device=edges.device)
        batch = images.repeat_interleave(record.offsets.diff(), output_size=len(record.scores))
        target = boundary_targets(edges, record.xy, batch, record.patch_size)
        counted = (
            at_patches(patch_share(seen, record.patch_size), record.xy, batch, record.patch_size)
            > 0
        )
        losses = _LOSSES[self.loss_name](record.scores, target, reduction='none')
        return (losses * counted).sum() / counted.sum().clamp(min=1)
