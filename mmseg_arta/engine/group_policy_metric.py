"""How well a policy network tells groups of one class from others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmseg.registry import METRICS

from ..models.decode_heads.group_policy_head import MIXED, group_targets
from ..option_checks import (
    MOST_PIXELS,
    MOST_WHOLE,
    check_choice,
    check_number,
    check_text,
    check_whole,
)


@METRICS.register_module()
class GroupPolicyMetric(BaseMetric):
    """Accuracy, precision and recall of "one class" per group size, and their mean F1.

    Needs the samples of a :class:`~mmseg_arta.models.segmentors.GroupPolicySegmentor` whose
    labels have the size of the test image: ``LoadAnnotations`` comes before ``Resize``.

    Args:
        patch_size: side of a patch in pixels.
        threshold: score from which a group counts as one class.
        mixed: see :func:`~mmseg_arta.models.decode_heads.group_targets`.
        ignore_index: label of ignored pixels.
        collect_device, prefix: as in every mmengine metric.
    """

    def __init__(
        self,
        patch_size: int = 16,
        threshold: float = 0.5,
        mixed: str = 'different',
        ignore_index: int = 255,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        check_whole(self, most=MOST_PIXELS, patch_size=patch_size)
        check_number(self, threshold=threshold)
        check_choice(self, MIXED, mixed=mixed)
        check_whole(self, -MOST_WHOLE, ignore_index=ignore_index)
        check_choice(self, ('cpu', 'gpu'), collect_device=collect_device)
        check_text(self, optional=True, prefix=prefix)
        super().__init__(collect_device, prefix)
        self.patch_size, self.threshold, self.mixed = patch_size, threshold, mixed
        self.ignore_index = ignore_index

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Count the outcomes of every group of a batch.

        Raises:
            ValueError: if labels and scores are of different grids.
        """
        for sample in data_samples:
            labels = sample['gt_sem_seg']['data']
            counts = {}
            for size, scores in sample['group_scores'].items():
                target = group_targets(
                    labels, size * self.patch_size, self.ignore_index, self.mixed
                )[0]
                if target.shape != scores.shape:
                    raise ValueError(
                        f'GroupPolicyMetric: labels have {tuple(target.shape)} groups of '
                        f'{size}x{size} patches of {self.patch_size} px, the scores '
                        f'{tuple(scores.shape)}: patch_size must be the one of the head, and '
                        'annotations are loaded before Resize, so that both have one size'
                    )
                target = target.to(scores.device)
                known = target != 255
                found = (scores > self.threshold)[known]
                one = (target == 1)[known]
                outcomes = (found & one, found & ~one, ~found & one, ~found & ~one)
                counts[size] = torch.stack([outcome.sum() for outcome in outcomes]).tolist()
            self.results.append(counts)

    def compute_metrics(self, results: list[dict[int, list[int]]]) -> dict[str, float]:
        """Percentages; of group sizes that never occurred 0."""
        metrics = {}
        scores = []
        for size in sorted(results[0]) if results else ():
            hit, false, missed, clear = (sum(row[size][i] for row in results) for i in range(4))
            total = hit + false + missed + clear
            metrics[f'accuracy_{size}'] = 100 * (hit + clear) / max(total, 1)
            metrics[f'precision_{size}'] = 100 * hit / max(hit + false, 1)
            metrics[f'recall_{size}'] = 100 * hit / max(hit + missed, 1)
            scores.append(100 * 2 * hit / max(2 * hit + false + missed, 1))
        metrics['mF1'] = sum(scores) / max(len(scores), 1)
        return metrics
