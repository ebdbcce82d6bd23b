"""Matching and loss of mask classification with deep supervision (Mask2Former)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ...option_checks import (
    MOST_CHANNELS,
    MOST_WEIGHT,
    MOST_WHOLE,
    check_number,
    check_share,
    check_whole,
)
from ...structures import without_autocast
from .class_masks import ClassMasks, sample_maps, uncertain_points

#: Most places at which a mask is compared.
MOST_POINTS = 1 << 20
# The cost of a match with a prediction that is not finite.
_WORST = 1e6


@dataclass(frozen=True)
class Matches:
    """Which query predicts which mask.

    Attributes:
        image: ``(N,)`` int64 image of every target mask.
        classes: ``(N,)`` int64 class of every target mask.
        query: ``(L, N)`` int64 its query in each of ``L`` predictions.
    """

    image: Tensor
    classes: Tensor
    query: Tensor


class HungarianMatcher:
    """One query for every class mask at the lowest total cost.

    The cost of a pair is ``class_weight`` x minus the class probability, ``mask_weight`` x binary
    cross-entropy and ``dice_weight`` x dice loss of the masks. Masks are compared at random
    places that all masks of an image share, or in all cells (targets max-pooled) if those are
    no more. Costs of a batch are computed together and brought to the host at once.

    Args:
        class_weight, mask_weight, dice_weight: as above.
        num_points: places per image.
    """

    def __init__(
        self,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        num_points: int = 12544,
    ) -> None:
        check_number(self, 0.0, MOST_WEIGHT, class_weight=class_weight, mask_weight=mask_weight)
        check_number(self, 0.0, MOST_WEIGHT, dice_weight=dice_weight)
        check_whole(self, most=MOST_POINTS, num_points=num_points)
        self.class_weight, self.mask_weight = class_weight, mask_weight
        self.dice_weight, self.num_points = dice_weight, num_points

    @torch.no_grad()
    def __call__(
        self, class_logits: Sequence[Tensor], mask_logits: Sequence[Tensor], targets: ClassMasks
    ) -> Matches:
        """Match ``L`` predictions of a batch.

        Args:
            class_logits: ``L`` of ``(B, Q, classes + 1)`` float32.
            mask_logits: ``L`` of ``(B, Q, h, w)`` float32.
            targets: the masks of the same images.

        Raises:
            ValueError: if an image shows more classes than there are queries.
        """
        queries = class_logits[0].shape[1]
        if max(*targets.counts, 0) > queries:
            raise ValueError(
                f'an image shows {max(targets.counts)} classes, but num_queries is {queries}: '
                f'expected at least as many queries as classes in an image'
            )
        image, classes = targets.image_of_mask(), targets.class_of_mask()
        if not len(image):
            return Matches(image, classes, image.new_zeros((len(class_logits), 0)))
        cost = self.costs(class_logits, mask_logits, targets).cpu()
        # Predictions that are not finite are matched by chance: so will the loss be, and with mixed
        # precision the step is skipped. NonFiniteLossHook stops a run that does not recover.
        cost = cost.nan_to_num(nan=_WORST, posinf=_WORST, neginf=_WORST)
        chosen = [
            self._assign(cost[number, index, :, :count])
            for number in range(len(class_logits))
            for index, count in enumerate(targets.counts)
        ]
        query = torch.cat(chosen).view(len(class_logits), -1)
        return Matches(image, classes, query.to(image.device))

    def costs(
        self, class_logits: Sequence[Tensor], mask_logits: Sequence[Tensor], targets: ClassMasks
    ) -> Tensor:
        """Costs ``(L, B, Q, M)``; those of classes that fill up ``targets`` mean nothing."""
        batch, _, *size = mask_logits[0].shape
        points = None
        if size[0] * size[1] <= self.num_points:
            wanted = targets.pooled((size[0], size[1]))
        else:
            # The same places for all predictions, so targets are sampled once.
            points = torch.rand((batch, self.num_points, 2), device=targets.classes.device)
            images = torch.arange(batch, device=points.device)
            wanted = targets.sample(images, targets.classes, points)
        wanted = wanted.transpose(1, 2)  # (B, P, M)
        area = wanted.sum(1)[:, None]
        index = targets.classes.clamp(min=0)[:, None]
        costs = []
        for classes, masks in zip(class_logits, mask_logits, strict=True):
            share = classes.softmax(-1)
            of_class = -share.gather(2, index.expand(-1, share.shape[1], -1))
            mask_at = masks.flatten(2) if points is None else sample_maps(masks, points)
            # Binary cross-entropy is softplus(x) - x t.
            of_mask = (
                F.softplus(mask_at).mean(-1, keepdim=True) - mask_at @ wanted / mask_at.shape[2]
            )
            mask_at = mask_at.sigmoid()
            overlap = 2 * (mask_at @ wanted) + 1
            of_dice = 1 - overlap / (mask_at.sum(-1, keepdim=True) + area + 1)
            costs.append(
                self.class_weight * of_class
                + self.mask_weight * of_mask
                + self.dice_weight * of_dice
            )
        return torch.stack(costs)

    @staticmethod
    def _assign(cost: Tensor) -> Tensor:
        """Query of every target, from costs ``(Q, M)``."""
        query, target = linear_sum_assignment(cost.numpy())
        chosen = torch.empty(len(target), dtype=torch.int64)
        chosen[torch.from_numpy(target)] = torch.from_numpy(query)
        return chosen


class SetCriterion:
    """Classification, mask and dice losses of matched queries (Mask2Former).

    Every prediction is matched by itself. Mask losses are computed at ``num_points`` places per
    mask, most of them where the mask is undecided, or in all cells (targets max-pooled) if
    those are no more. Everything is computed in float32, outside autocast.

    Args:
        num_classes: classes without 'no object'.
        class_weight, mask_weight, dice_weight: weights of the losses, and of the matching costs.
        no_object_weight: weight of 'no object' in the classification loss.
        num_points: places per mask.
        oversample, importance: see
            :func:`~.class_masks.uncertain_points`.
        ignore_index: label of ignored pixels; they belong to no mask.
    """

    def __init__(
        self,
        num_classes: int,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        no_object_weight: float = 0.1,
        num_points: int = 12544,
        oversample: float = 3.0,
        importance: float = 0.75,
        ignore_index: int = 255,
    ) -> None:
        check_whole(self, most=MOST_CHANNELS, num_classes=num_classes)
        check_number(self, 0.0, MOST_WEIGHT, class_weight=class_weight, mask_weight=mask_weight)
        check_number(
            self, 0.0, MOST_WEIGHT, dice_weight=dice_weight, no_object_weight=no_object_weight
        )
        check_whole(self, most=MOST_POINTS, num_points=num_points)
        check_number(self, 1.0, 64.0, oversample=oversample)
        check_share(self, importance=importance)
        check_whole(self, -MOST_WHOLE, ignore_index=ignore_index)
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.weights = (class_weight, mask_weight, dice_weight)
        self.no_object_weight, self.num_points = no_object_weight, num_points
        self.oversample, self.importance = oversample, importance
        self.matcher = HungarianMatcher(class_weight, mask_weight, dice_weight, num_points)

    def __call__(
        self, class_logits: Sequence[Tensor], mask_logits: Sequence[Tensor], labels: Tensor
    ) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            class_logits: ``(B, Q, classes + 1)`` of every prediction, the final one last.
            mask_logits: ``(B, Q, h, w)`` of every prediction.
            labels: ``(B, H, W)`` label maps; ``H`` and ``W`` are multiples of ``h`` and ``w``.

        Returns:
            ``loss_cls``, ``loss_mask`` and ``loss_dice`` of the final prediction and
            ``d<i>.loss_...`` of the others, weighted.

        Raises:
            ValueError: for labels that do not fit the masks or the classes.
        """
        size = (mask_logits[0].shape[2], mask_logits[0].shape[3])
        if labels.shape[1] % size[0] or labels.shape[2] % size[1]:
            raise ValueError(
                f"labels must have a multiple of the masks' size {size}, "
                f'found {tuple(labels.shape[1:])}'
            )
        with without_autocast(labels):
            class_logits = [logits.float() for logits in class_logits]
            mask_logits = [logits.float() for logits in mask_logits]
            targets = ClassMasks.of(labels, self.num_classes, self.ignore_index)
            matches = self.matcher(class_logits, mask_logits, targets)
            masks = mask_logits[0].new_tensor(float(len(matches.image)))
            all_reduce(masks, 'mean')
            masks = masks.clamp(min=1)
            wanted = None
            if size[0] * size[1] <= self.num_points:
                wanted = self._pooled_targets(targets, matches, size)
            queries = matches.query.unbind()
            # All predictions at once from here on: many small kernels take longer to start than
            # to run.
            matched = torch.stack(
                [
                    maps[matches.image, query]
                    for maps, query in zip(mask_logits, queries, strict=True)
                ]
            )
            parts = (
                self._class_losses(torch.stack(class_logits), matches),
                *self._mask_losses(matched, targets, matches, wanted, masks),
            )
        weighted = {
            f'loss_{name}': weight * part
            for name, weight, part in zip(('cls', 'mask', 'dice'), self.weights, parts, strict=True)
        }
        prefixes = [*(f'd{number}.' for number in range(len(class_logits) - 1)), '']
        return {
            f'{prefix}{name}': losses[number]
            for number, prefix in enumerate(prefixes)
            for name, losses in weighted.items()
        }

    def _class_losses(self, logits: Tensor, matches: Matches) -> Tensor:
        """Weighted mean cross-entropy of every prediction, of ``logits (L, B, Q, classes + 1)``."""
        count, batch, queries, _ = logits.shape
        wanted = logits.new_full((count, batch, queries), self.num_classes, dtype=torch.int64)
        place = matches.image * queries + matches.query
        wanted.flatten(1).scatter_(1, place, matches.classes.expand(count, -1))
        weight = logits.new_ones(self.num_classes + 1)
        weight[-1] = self.no_object_weight
        losses = F.cross_entropy(
            logits.flatten(0, 2), wanted.flatten(), weight, reduction='none'
        ).view(count, -1)
        return losses.sum(1) / weight[wanted].flatten(1).sum(1)

    def _mask_losses(
        self,
        maps: Tensor,
        targets: ClassMasks,
        matches: Matches,
        wanted: Tensor | None,
        masks: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy and dice loss per mask (ranks' mean) of every prediction.

        Args:
            maps: ``(L, N, h, w)`` matched mask logits.
            targets, matches: what they are matched with.
            wanted: ``(N, h * w)`` pooled targets; None where masks are sampled.
            masks: number of masks.
        """
        count, number = maps.shape[:2]
        if not number:
            # No mask in the batch: zeros that still belong to the graph, for distributed runs.
            return maps.flatten(1).sum(1), maps.flatten(1).sum(1)
        if wanted is not None:
            logits = maps.flatten(2)
        else:
            flat = maps.flatten(0, 1)
            points = uncertain_points(flat, self.num_points, self.oversample, self.importance)
            logits = sample_maps(flat[:, None], points).view(count, number, -1)
            image, classes = (rows.repeat(count) for rows in (matches.image, matches.classes))
            wanted = targets.sample(image, classes[:, None], points).view_as(logits)
        wanted = wanted.expand_as(logits)
        entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction='none').mean(2)
        share = logits.sigmoid()
        overlap = 2 * (share * wanted).sum(2) + 1
        dice = 1 - overlap / (share.sum(2) + wanted.sum(2) + 1)
        return entropy.sum(1) / masks, dice.sum(1) / masks

    @staticmethod
    def _pooled_targets(targets: ClassMasks, matches: Matches, size: tuple[int, int]) -> Tensor:
        """Max-pooled target ``(N, h * w)`` of every match."""
        pooled = targets.pooled(size)
        counts = torch.tensor(targets.counts, device=pooled.device)
        first = counts.cumsum(0) - counts
        number = torch.arange(len(matches.image), device=pooled.device)
        return pooled[matches.image, number - first[matches.image]]
