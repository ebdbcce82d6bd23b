"""Caps on the share of tokens that get finer ones, from ground truth (DUPS appendix A)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import mmcv
import numpy as np
import torch
import torch.nn.functional as F
from mmseg.registry import DATASETS
from torch import Tensor

from ...ops import boundary_map

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
        ValueError: if the data set is empty or its pipeline loads no label maps.
    """

    def __init__(
        self,
        dataset: Mapping[str, Any],
        test_pipeline: Sequence[Mapping[str, Any]] = (),
        limit: int | None = None,
    ) -> None:
        loader = _label_loader(dataset)
        self.dataset = DATASETS.build(_with_pipeline(dataset, [loader]))
        if not len(self.dataset):
            raise ValueError(f'the data set in {dataset.get("data_root")!r} holds no images')
        total = len(self.dataset)
        count = min(total, limit or total)
        self.rows = np.linspace(0, total - 1, count).round().astype(int).tolist()
        self.resize = next((step for step in test_pipeline if step['type'] == 'Resize'), None)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Tensor]:
        """Each map ``(H, W)`` int64."""
        for row in self.rows:
            item = self.dataset[row]
            labels = item['gt_seg_map']
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
            factor = self.resize['scale_factor']
            factors = (factor, factor) if isinstance(factor, (int, float)) else factor
            scale = tuple(
                round(side * f) for side, f in zip(labels.shape[::-1], factors, strict=True)
            )
        elif self.resize.get('keep_ratio', False):
            return mmcv.imrescale(labels, tuple(scale), interpolation='nearest')
        return mmcv.imresize(labels, tuple(scale), interpolation='nearest')


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
