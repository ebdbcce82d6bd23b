"""Settings of allocation policies, from the data they will meet.

Caps on the share of tokens that get finer ones come from ground truth (DUPS appendix A);
thresholds on boundary scores from a budget, in tokens or in operations, that they shall spend.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mmcv
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from mmseg.registry import DATASETS
from torch import Tensor

from ..models.allocation.policies import AllocationPolicy, ThresholdAllocation, TokenCosts
from ..models.backbones.mixed_encoder import MixedResolutionEncoder
from ..models.segmentors.windows import slide_corners
from ..ops import boundary_map
from ..structures import MixedTokens
from .flops import count_operations
from .flops.count import EvenAllocation

#: What one forward pass of a backbone cost: images (1, 3, H, W) in, tokens out.
Cost = Callable[[Tensor, MixedTokens], float]

# Passes that determine what tokens cost: canvases of different sizes, and on each several shares.
_SHAPES = ((256, 256), (256, 512), (512, 512), (512, 768))
_SHARES = ((0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1), (0.85, 0.7, 0.6), (0.3, 0.6, 0.9))

# The factor on the thresholds is searched between its inverse and this.
_WIDEST = 1e6

_WRAPPERS = ('dataset', 'datasets')


class LabelMaps:
    """Label maps of a data set, resized as its test pipeline resizes images.

    Images are not read, so that the files of a whole training set take minutes.

    Args:
        dataset: config of the data set.
        test_pipeline: pipeline whose ``Resize`` step sets the size; without one the maps keep
            their own.
        limit: how many maps, spread evenly; all by default.

    Raises:
        ValueError: if the data set is empty, its pipeline loads no label maps, or the test
            pipeline resizes or crops in another way.
    """

    def __init__(
        self,
        dataset: Mapping[str, Any],
        test_pipeline: Sequence[Mapping[str, Any]] = (),
        limit: int | None = None,
    ) -> None:
        self.resize = _resize_of(test_pipeline)
        loader = _label_loader(dataset)
        self.dataset = DATASETS.build(_with_pipeline(dataset, [loader]))
        if not len(self.dataset):
            raise ValueError(f'the data set in {dataset.get("data_root")!r} holds no images')
        total = len(self.dataset)
        count = min(total, limit or total)
        self.rows = np.linspace(0, total - 1, count).round().astype(int).tolist()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Tensor]:
        """Each map ``(H, W)`` int64."""
        for row in self.rows:
            item = self.dataset[row]
            labels = item['gt_seg_map']
            # The loader drops sides of one pixel; a row counts like a column.
            labels = np.atleast_2d(labels)
            if labels.ndim != 2:
                raise ValueError(
                    f'label file {item.get("seg_map_path")!r} has shape {labels.shape}; expected '
                    f'one channel that holds class indices'
                )
            yield torch.from_numpy(self._resized(labels).astype(np.int64))

    def _resized(self, labels: np.ndarray) -> np.ndarray:
        if self.resize is None:
            return labels
        scale = self.resize.get('scale')
        if scale is None:
            factors = _pair(self.resize['scale_factor'])
            scale = tuple(
                round(side * f) for side, f in zip(labels.shape[::-1], factors, strict=True)
            )
        elif self.resize.get('keep_ratio', False):
            return mmcv.imrescale(labels, _pair(scale), interpolation='nearest')
        return mmcv.imresize(labels, _pair(scale), interpolation='nearest')


def _resize_of(pipeline: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The step of a test pipeline that sets the size of images, checked; None without one.

    Steps inside others, as of test-time augmentation, are none of the pipeline's own.
    """
    found: list[Mapping[str, Any]] = []
    for step in pipeline:
        kind = step.get('type') if isinstance(step, Mapping) else None
        name = str(getattr(kind, '__name__', kind)).rpartition('.')[2]
        if name == 'Resize':
            found.append(step)
        elif 'Resize' in name or 'Crop' in name:
            raise ValueError(
                f'the test pipeline has a step {name}: label maps can be resized by one step '
                'Resize alone'
            )
    if not found:
        return None
    if len(found) > 1:
        raise ValueError(f'the test pipeline has {len(found)} steps Resize, expected at most one')
    (step,) = found
    option = 'scale' if step.get('scale') is not None else 'scale_factor'
    given, whole = step.get(option), option == 'scale'
    values = given if isinstance(given, (list, tuple)) else [given, given]
    kinds = int if whole else (int, float)
    right = [isinstance(v, kinds) and not isinstance(v, bool) and v > 0 for v in values]
    if len(values) != 2 or not all(right):
        what = 'a positive integer, or' if whole else 'a positive number, or'
        raise ValueError(
            f'Resize.{option} of the test pipeline must be {what} two of them, found {given!r}'
        )
    return step


def _pair(value: Any) -> tuple[Any, Any]:
    """Width and height: transforms take one number for both."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value, value)


def required_shares(
    labels: Tensor, patch_sizes: Sequence[int] = (32, 16, 8), ignore_index: int = 255
) -> list[float]:
    """Share of the patches of each round that hold more than one boundary pixel.

    Of the second round on, only those patches count whose parent does (DUPS 3.2.2: the share
    is conditioned on the coarser scale having been refined).

    Args:
        labels: ``(H, W)`` class indices.
        patch_sizes: sides of the candidates' patches in pixels, one per round; each half the
            one before.
        ignore_index: label of ignored pixels; they make no boundary.

    Returns:
        one share per round; NaN where no patch is left to decide about.
    """
    edges = boundary_map(labels[None], ignore_index)[0].to(torch.float32)
    largest = patch_sizes[0]
    height, width = edges.shape
    edges = F.pad(edges, (0, -width % largest, 0, -height % largest))[None, None]
    shares = []
    present = torch.ones(1)
    for size in patch_sizes:
        # Exact: the mean of at most 1024 zeros and ones, times their number.
        pixels = F.avg_pool2d(edges, size) * size**2
        required = (pixels > 1.5).to(torch.float32)
        count = present.expand_as(required).sum()
        shares.append((required.sum() / count).item() if count else float('nan'))
        present = required.repeat_interleave(2, -2).repeat_interleave(2, -1)
    return shares


def calibrate_caps(
    label_maps: Iterable[Tensor],
    patch_sizes: Sequence[int] = (32, 16, 8),
    percentile: float = 99.0,
    margin: float = 0.05,
    ignore_index: int = 255,
) -> list[float]:
    """The cap (beta) of each round: a high percentile of :func:`required_shares`, and a margin.

    Args:
        label_maps: ``(H, W)`` class indices of each image.
        patch_sizes, ignore_index: see :func:`required_shares`.
        percentile: in [0, 100].
        margin: added to the percentile; the sum is at most 1.

    Raises:
        ValueError: if a round has no image to learn from.
    """
    if not 0 <= percentile <= 100:
        raise ValueError(f'percentile must be in [0, 100], found {percentile}')
    shares = np.array([required_shares(m, patch_sizes, ignore_index) for m in label_maps])
    caps = []
    for index, column in enumerate(shares.T if len(shares) else [np.array([])] * len(patch_sizes)):
        known = column[~np.isnan(column)]
        if not len(known):
            raise ValueError(
                f'no image has a class boundary to learn the cap of round {index + 1} from '
                f'({len(shares)} images)'
            )
        caps.append(min(float(np.percentile(known, percentile)) + margin, 1.0))
    return caps


def _label_loader(dataset: Mapping[str, Any]) -> Mapping[str, Any]:
    """The step of a data set's pipeline that loads its label maps."""
    for key in _WRAPPERS:
        inner = dataset.get(key)
        if inner is not None:
            return _label_loader(inner[0] if isinstance(inner, (list, tuple)) else inner)
    for step in dataset.get('pipeline', ()):
        if step['type'] == 'LoadAnnotations':
            return step
    raise ValueError('the data set has no LoadAnnotations step in its pipeline: no ground truth')


def _with_pipeline(
    dataset: Mapping[str, Any], pipeline: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    changed = dict(dataset)
    wrapped = False
    for key in _WRAPPERS:
        inner = changed.get(key)
        if isinstance(inner, (list, tuple)):
            changed[key], wrapped = [_with_pipeline(one, pipeline) for one in inner], True
        elif inner is not None:
            changed[key], wrapped = _with_pipeline(inner, pipeline), True
    if not wrapped or 'pipeline' in changed:
        changed['pipeline'] = [] if wrapped else list(pipeline)
    return changed


def token_cost(image: Tensor, tokens: MixedTokens) -> float:
    """Tokens of all levels of a pass over one image."""
    return float(sum(len(level) for level in tokens.levels))


class BackboneInputs:
    """What a segmentor's backbone sees of a data set: preprocessed images, or their windows.

    Args:
        model: a segmentor; its slide mode decides about windows.
        dataset: items as a test pipeline packs them.
        rows: which items.
    """

    def __init__(self, model: BaseModel, dataset: Any, rows: Sequence[int]) -> None:
        self.model, self.dataset, self.rows = model, dataset, list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[list[Tensor]]:
        """The passes of each image, ``(1, 3, h, w)`` each."""
        test_cfg = self.model.test_cfg or {}
        for row in self.rows:
            batch = pseudo_collate([self.dataset[row]])
            image = self.model.data_preprocessor(batch, False)['inputs']
            if test_cfg.get('mode') != 'slide':
                yield [image]
                continue
            crop, stride = tuple(test_cfg['crop_size']), tuple(test_cfg['stride'])
            corners = slide_corners(tuple(image.shape[2:]), crop, stride)
            yield [image[:, :, y : y + crop[0], x : x + crop[1]] for y, x in corners]


@dataclass(frozen=True)
class ThresholdSearch:
    """Outcome of :func:`calibrate_thresholds`.

    Attributes:
        thresholds: one per allocation round.
        cost: mean cost per pass with them, at most the budget.
        cheapest, dearest: mean cost when nothing and when all is refined.
    """

    thresholds: tuple[float, ...]
    cost: float
    cheapest: float
    dearest: float


@torch.no_grad()
def calibrate_thresholds(
    backbone: MixedResolutionEncoder,
    inputs: Callable[[], Iterator[list[Tensor]]],
    budget: float,
    start: Sequence[float] = (0.005, 0.01, 0.02),
    cost: Cost = token_cost,
    tolerance: float = 0.01,
    steps: int = 16,
) -> ThresholdSearch:
    """Scale thresholds by a common factor until passes cost as much as a budget on average.

    Finer rounds decide about what coarser ones refined, so the cost follows from running the
    backbone; it falls as the factor grows, which is found by bisection.

    Args:
        backbone: with an allocation ``policy``, trained; put in eval mode meanwhile.
        inputs: gives the passes of each image anew at every call.
        budget: mean cost per pass that must not be exceeded.
        start: thresholds whose ratios are kept, one per round, all positive.
        cost: of one pass; tokens by default.
        tolerance: stop when the cost is at most this share below the budget.
        steps: bisection steps at most.

    Raises:
        ValueError: if the budget is below the cost without any refinement, or a threshold
            is not positive.
    """
    start = tuple(float(value) for value in start)
    if min(start) <= 0:
        raise ValueError(f'thresholds to scale must be positive, found {list(start)}')
    training = backbone.training
    backbone.eval()

    def mean_cost(factor: float) -> float:
        thresholds = tuple(value * factor for value in start)
        with _policy(backbone, ThresholdAllocation(thresholds)):
            costs = [cost(image, backbone(image)) for passes in inputs() for image in passes]
        if not costs:
            raise ValueError('there are no images to calibrate thresholds on')
        return sum(costs) / len(costs)

    try:
        cheapest, dearest = mean_cost(math.inf), mean_cost(-math.inf)
        if budget < cheapest:
            raise ValueError(
                f'the budget of {budget:g} is below what passes cost without any finer token: '
                f'{cheapest:g} on average'
            )
        low, high = 1 / _WIDEST, _WIDEST
        best, best_cost = high, mean_cost(high)
        if best_cost > budget:
            raise ValueError(f'scores above {min(start) * high:g} remain: is the model trained?')
        for _ in range(steps):
            if best_cost >= budget * (1 - tolerance):
                break
            middle = math.sqrt(low * high)
            middle_cost = mean_cost(middle)
            if middle_cost <= budget:
                high, best, best_cost = middle, middle, middle_cost
            else:
                low = middle
    finally:
        backbone.train(training)
    return ThresholdSearch(tuple(value * best for value in start), best_cost, cheapest, dearest)


@contextmanager
def _policy(backbone: MixedResolutionEncoder, policy: AllocationPolicy) -> Generator[None]:
    before = backbone.policy
    backbone.policy = policy
    try:
        yield
    finally:
        backbone.policy = before


def fit_token_costs(
    model: BaseModel,
    published: bool = False,
    shapes: Sequence[tuple[int, int]] = _SHAPES,
    progress: Callable[[int, int], None] | None = None,
) -> TokenCosts:
    """Costs of a whole model's tokens in billions of multiply-accumulates ("GFLOPs" in papers).

    Args:
        model: a segmentor whose backbone has an allocation ``policy``; it is left as it was.
        published: count as the papers do, instead of what is executed.
        shapes: ``(height, width)`` of the images to count.
        progress: called with how many passes were counted, and of how many.
    """
    policy = model.backbone.policy
    counts, costs = [], []
    try:
        for shape in shapes:
            for shares in _SHARES:
                model.backbone.policy = EvenAllocation(shares)
                count = count_operations(model, shape, dry=True)
                counts.append([count.tokens[size] for size in sorted(count.tokens, reverse=True)])
                costs.append((count.macs_published if published else count.macs) / 1e9)
                if progress is not None:
                    progress(len(costs), len(shapes) * len(_SHARES))
    finally:
        model.backbone.policy = policy
    return TokenCosts.fit(counts, costs)
