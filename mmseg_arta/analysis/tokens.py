"""What models with tokens of their own do to images: how many tokens, where, at which cost.

:func:`analyze` gathers; :func:`merging_table` and :func:`halting_table` are STEP's tables 2 and 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel

from ..engine.coverage import ignore_index_of, labels_of_input
from ..engine.token_view import chosen_patches
from ..engine.windows import Window
from ..models.token_reduction import ReducedTokens, ThresholdMerging
from ..ops import boundary_map
from ..structures import MixedTokens
from .boundary_quality import BOUNDARY_RATIO, BoundaryQuality
from .flops.count import count_run
from .passes import PassWatch, windows_of_passes
from .token_spending import Spending


@dataclass(frozen=True)
class TokenUse:
    """Tokens of one image, or of one window of it in slide inference.

    Attributes:
        patches: patches of the image before anything merges.
        superpatches: side in patches to the number of tokens of that size.
        halted: tokens that stop at each halting point.
    """

    patches: int
    superpatches: dict[int, int]
    halted: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens after merging."""
        return sum(self.superpatches.values())

    @classmethod
    def of(cls, tokens: ReducedTokens) -> tuple[TokenUse, ...]:
        """Of every image of a batch."""
        layout = tokens.layout
        return tuple(
            cls(
                layout.grid[0] * layout.grid[1],
                dict(zip(layout.group_sizes, layout.counts[number], strict=True)),
                tuple(halt.lengths[number] - halt.kept[number] for halt in tokens.halts),
            )
            for number in range(layout.batch_size)
        )


@dataclass(frozen=True)
class ImageTokens:
    """Tokens of one image, or of one window of it in slide inference.

    Attributes:
        image: its name.
        window: its number, 0 for the whole image.
        counts: by kind, such as '16 px', '2x2 patches' or 'halted after block 8'.
        spendings: of every round; empty without ground truth.
    """

    image: str
    window: int
    counts: dict[str, int]
    spendings: tuple[Spending, ...] = ()


@dataclass(frozen=True)
class Analysis:
    """Outcome of :func:`analyze`.

    Attributes:
        gmacs: 10^9 multiply-accumulates of every image as executed, post-processing included.
        images: tokens of every image or window; empty for models without tokens of their own.
        uses: tokens of every image or window of a plain transformer.
        metrics: of the evaluator, if one was given.
        quality: of the predictions near boundaries; None without ground truth.
    """

    gmacs: tuple[float, ...]
    images: tuple[ImageTokens, ...] = ()
    uses: tuple[TokenUse, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    quality: BoundaryQuality | None = None


@torch.no_grad()
def analyze(
    model: BaseModel,
    samples: Iterable[Mapping[str, Any]],
    classes: int,
    evaluator: Any | None = None,
    boundary_ratio: float = BOUNDARY_RATIO,
    progress: Callable[[int], None] | None = None,
) -> Analysis:
    """Test images one by one, counting tokens and operations.

    Args:
        model: a segmentor in eval mode.
        samples: of a test data set, in its order.
        classes: of the data set.
        evaluator: of mmengine; judges the predictions.
        boundary_ratio: see :class:`~mmseg_arta.analysis.boundary_quality.BoundaryQuality`.
        progress: told after every image how many are done.

    Raises:
        ValueError: if there are no samples, or the windows of an image are not known.
    """
    images: list[ImageTokens] = []
    uses: list[TokenUse] = []
    gmacs: list[float] = []
    ignored = ignore_index_of(model)
    quality = BoundaryQuality(classes, ratio=boundary_ratio, ignore_index=ignored)
    judged = False
    after = getattr(getattr(model.backbone, 'halting', None), 'after', ())
    with PassWatch().on(model) as watch:
        for sample in samples:
            batch = pseudo_collate([sample])
            predictions: list[Any] = []
            height, width = sample['inputs'].shape[1:]
            counted = count_run(
                model,
                lambda batch=batch, found=predictions: found.extend(model.test_step(batch)),
                (height, width),
                mode='config',
            )
            gmacs.append(counted.macs / 1e9)
            result, passes = predictions[0], watch.take()
            windows = windows_of_passes(passes, predictions, model.test_cfg)
            if windows is None and any(one.tokens is not None for one in passes):
                raise ValueError(f'the windows of {len(passes)} passes over an image are not known')
            images += image_tokens(result, windows or [], after, ignored)
            for window in windows or []:
                if isinstance(window.tokens, ReducedTokens):
                    uses.extend(TokenUse.of(window.tokens))
            if 'gt_sem_seg' in result:
                judged = True
                quality.add(*(_labels(result, name) for name in ('pred_sem_seg', 'gt_sem_seg')))
            if evaluator is not None:
                evaluator.process(data_samples=predictions, data_batch=batch)
            if progress is not None:
                progress(len(gmacs))
    if not gmacs:
        raise ValueError('there are no images to analyse')
    metrics = {} if evaluator is None else evaluator.evaluate(len(gmacs))
    return Analysis(
        tuple(gmacs), tuple(images), tuple(uses), dict(metrics), quality if judged else None
    )


def image_tokens(
    sample: Any, windows: Sequence[Window], after: Sequence[int] = (), ignore_index: int = 255
) -> list[ImageTokens]:
    """Tokens of an image's windows, and with ground truth where they were spent.

    Args:
        sample: the result for the image.
        windows: what the passes over it saw.
        after: blocks before every halting point.
        ignore_index: label of ignored pixels.
    """
    name = Path(str(sample.metainfo.get('img_path', ''))).stem
    edges = None
    if 'gt_sem_seg' in sample:
        edges = boundary_map(labels_of_input([sample], ignore_index), ignore_index)[0]
    found = []
    for number, (tokens, top, left) in enumerate(windows):
        spendings: list[Spending] = []
        if edges is not None:
            reduced = isinstance(tokens, ReducedTokens)
            height, width = (tokens.layout if reduced else tokens).image_size
            part = edges[top : top + height, left : left + width]
            # What was padded to the input has no boundary.
            part = F.pad(part, (0, width - part.shape[1], 0, height - part.shape[0]))
            seen = np.asarray(part.cpu())
            spendings = [Spending.of(patches, seen) for patches in chosen_patches(tokens)]
        found.append(ImageTokens(name, number, token_counts(tokens, after), tuple(spendings)))
    return found


def token_counts(tokens: MixedTokens | ReducedTokens, after: Sequence[int] = ()) -> dict[str, int]:
    """Tokens of a single image by kind: per level, or per superpatch size and halting point."""
    if isinstance(tokens, MixedTokens):
        return {f'{level.patch_size} px': level.lengths[0] for level in tokens.levels}
    (use,) = TokenUse.of(tokens)
    counts = {f'{size}x{size} patches': count for size, count in use.superpatches.items()}
    for number, count in enumerate(use.halted):
        counts[f'halted after block {after[number]}'] = count
    return counts


def _labels(sample: Any, name: str) -> np.ndarray:
    return sample.get(name).data.squeeze(0).cpu().numpy()


def set_thresholds(model: BaseModel, thresholds: Mapping[int, float]) -> None:
    """Let a dCTS model merge groups of these sizes by these thresholds.

    Args:
        model: a segmentor.
        thresholds: group side in patches to threshold.

    Raises:
        ValueError: if its backbone does not merge by thresholds, or its policy network scores no
            groups of such a size.
    """
    backbone = model.backbone
    if not isinstance(getattr(backbone, 'merging', None), ThresholdMerging):
        raise ValueError('thresholds need a backbone with ThresholdMerging (dCTS or STEP)')
    policy = ThresholdMerging({str(size): value for size, value in thresholds.items()})
    backbone.policy_net.check_sizes(policy.group_sizes, backbone.patch_size)
    backbone.merging = policy


@dataclass(frozen=True)
class Spread:
    """Mean, largest and smallest of some numbers."""

    mean: float
    max: float
    min: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one number."""
        if not values:
            raise ValueError('there are no images to average over')
        return cls(sum(values) / len(values), max(values), min(values))


def merging_table(uses: Sequence[TokenUse]) -> dict[int, Spread]:
    """Tokens of every superpatch size, over images (STEP table 2)."""
    sizes = sorted({size for use in uses for size in use.superpatches})
    return {size: Spread.of([use.superpatches.get(size, 0) for use in uses]) for size in sizes}


def halting_table(uses: Sequence[TokenUse]) -> tuple[Spread, ...]:
    """Tokens halted at every halting point, over images (STEP table 7)."""
    points = max((len(use.halted) for use in uses), default=0)
    return tuple(Spread.of([use.halted[point] for use in uses]) for point in range(points))
