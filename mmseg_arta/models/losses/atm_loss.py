"""Loss of attention-to-mask heads (SegViT 3.4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from torch import Tensor

from ...option_checks import (
    MOST_CHANNELS,
    MOST_WEIGHT,
    MOST_WHOLE,
    check_choice,
    check_number,
    check_share,
    check_whole,
)
from ...structures import without_autocast
from .class_masks import ClassMasks


class ATMLoss:
    """Classification, focal and dice losses with a fixed assignment: query c is class c.

    Computed in float32, outside autocast. Only masks of classes that an image shows count.

    Args:
        num_classes: classes.
        classes: what class logits mean: 'all' classes and 'no object', or 'presence'.
        class_weight, mask_weight, dice_weight: weights of the losses.
        no_object_weight: weight of absent classes in the classification loss.
        alpha, gamma: of the focal loss.
        ignored_pixels: 'out': they take no part in mask losses, or 'negative' as in the
            published code, where they belong to no mask but count.
        ignore_index: label of ignored pixels.
    """

    def __init__(
        self,
        num_classes: int,
        classes: str = 'all',
        class_weight: float = 1.0,
        mask_weight: float = 20.0,
        dice_weight: float = 1.0,
        no_object_weight: float = 0.1,
        alpha: float = 0.25,
        gamma: float = 2.0,
        ignored_pixels: str = 'out',
        ignore_index: int = 255,
    ) -> None:
        check_whole(self, most=MOST_CHANNELS, num_classes=num_classes)
        check_choice(self, ('all', 'presence'), classes=classes)
        check_choice(self, ('out', 'negative'), ignored_pixels=ignored_pixels)
        check_number(self, 0.0, MOST_WEIGHT, class_weight=class_weight, mask_weight=mask_weight)
        check_number(
            self, 0.0, MOST_WEIGHT, dice_weight=dice_weight, no_object_weight=no_object_weight
        )
        check_share(self, alpha=alpha)
        check_number(self, 0.0, 100.0, gamma=gamma)
        check_whole(self, -MOST_WHOLE, ignore_index=ignore_index)
        self.num_classes, self.classes = num_classes, classes
        self.class_weight, self.mask_weight = class_weight, mask_weight
        self.dice_weight, self.no_object_weight = dice_weight, no_object_weight
        self.alpha, self.gamma = alpha, gamma
        self.ignored_pixels, self.ignore_index = ignored_pixels, ignore_index

    def __call__(
        self,
        class_logits: Sequence[Tensor],
        mask_logits: Sequence[Tensor],
        labels: Tensor,
        patch_size: int,
    ) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            class_logits: ``(B, Q, K)`` of every prediction, the final one last; ``Q`` is the
                number of classes, ``K`` that plus 1, or 2 for 'presence'.
            mask_logits: ``(B, Q, rows, columns)`` of every prediction, a cell per patch.
            labels: ``(B, H, W)`` label maps that the patches cover.
            patch_size: side of a patch in pixels.

        Returns:
            ``loss_ce``, ``loss_mask`` and ``loss_dice`` of the final prediction, and with the
            suffix ``_<i>`` of the others, weighted.

        Raises:
            ValueError: for labels that are no classes.
        """
        with without_autocast(labels):
            targets = ClassMasks.of(labels, self.num_classes, self.ignore_index)
            image, present = targets.image_of_mask(), targets.class_of_mask()
            masks = class_logits[0].new_tensor(float(len(image)), dtype=torch.float32)
            all_reduce(masks, 'mean')
            masks = masks.clamp(min=1)
            wanted = (labels[image] == present[:, None, None]).flatten(1)
            seen = None
            if self.ignored_pixels == 'out':
                seen = (labels != self.ignore_index).flatten(1)[image]
            size = (labels.shape[1], labels.shape[2])
            losses: dict[str, Tensor] = {}
            for number, (logits, maps) in enumerate(zip(class_logits, mask_logits, strict=True)):
                suffix = '' if number == len(class_logits) - 1 else f'_{number}'
                logits, maps = logits.float(), maps[image, present].float()
                entropy = self._class_loss(logits, image, present)
                focal, dice = self._mask_losses(maps, wanted, seen, size, patch_size)
                # Without a mask in the batch the sums are zeros that still belong to the graph.
                losses[f'loss_ce{suffix}'] = self.class_weight * entropy
                losses[f'loss_mask{suffix}'] = self.mask_weight * focal.sum() / masks
                losses[f'loss_dice{suffix}'] = self.dice_weight * dice.sum() / masks
                if not len(image):
                    losses[f'loss_mask{suffix}'] = mask_logits[number].float().sum() * 0
        return losses

    def _class_loss(self, logits: Tensor, image: Tensor, present: Tensor) -> Tensor:
        absent = logits.shape[2] - 1
        wanted = torch.full(logits.shape[:2], absent, dtype=torch.int64, device=logits.device)
        wanted[image, present] = present if self.classes == 'all' else 0
        weight = logits.new_ones(absent + 1)
        weight[-1] = self.no_object_weight
        return F.cross_entropy(logits.transpose(1, 2), wanted, weight)

    def _mask_losses(
        self,
        maps: Tensor,
        wanted: Tensor,
        seen: Tensor | None,
        size: tuple[int, int],
        patch_size: int,
    ) -> tuple[Tensor, Tensor]:
        """Focal and dice loss ``(N,)`` of every mask.

        Args:
            maps: ``(N, rows, columns)`` logits.
            wanted: ``(N, H * W)`` bool target.
            seen: ``(N, H * W)`` bool, pixels that count; ``None`` for all.
            size: height and width of the labels.
            patch_size: side of a patch in pixels.
        """
        full = (maps.shape[1] * patch_size, maps.shape[2] * patch_size)
        # Interpolation refuses empty batches on some devices; one image without masks is common.
        if not len(maps):
            return maps.sum((1, 2)), maps.sum((1, 2))
        maps = F.interpolate(maps[:, None], full, mode='bilinear', align_corners=False)
        logits = maps[:, 0, : size[0], : size[1]].flatten(1)
        target = wanted.float()
        share = logits.sigmoid()
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction='none')
        wrong = torch.where(wanted, 1 - share, share)
        balance = torch.where(wanted, self.alpha, 1 - self.alpha)
        focal = balance * entropy * wrong**self.gamma
        if seen is None:
            focal = focal.mean(1)
        else:
            focal = (focal * seen).sum(1) / seen.sum(1).clamp(min=1)
            share = share * seen
        overlap = 2 * (share * target).sum(1) + 1
        dice = 1 - overlap / (share.sum(1) + target.sum(1) + 1)
        return focal, dice
