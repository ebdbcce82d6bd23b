"""Hungarian matching of queries and class masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .class_masks import ClassMasks
from .point_sampling import sample_maps


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
            ValueError: if an image shows more classes than there are queries, or predictions
                are not finite.
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
        if not cost.isfinite().all():
            raise ValueError(
                'the predictions are not finite (NaN or infinite), so no masks can be matched: '
                'the training has diverged'
            )
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
        for logits, masks in zip(class_logits, mask_logits, strict=True):
            share = logits.softmax(-1)
            of_class = -share.gather(2, index.expand(-1, share.shape[1], -1))
            found = masks.flatten(2) if points is None else sample_maps(masks, points)
            # Binary cross-entropy is softplus(x) - x t.
            of_mask = F.softplus(found).mean(-1, keepdim=True) - found @ wanted / found.shape[2]
            found = found.sigmoid()
            overlap = 2 * (found @ wanted) + 1
            of_dice = 1 - overlap / (found.sum(-1, keepdim=True) + area + 1)
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
