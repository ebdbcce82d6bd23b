"""Counting over images of a data set: what a model with a token count of its own really costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from mmseg.structures import SegDataSample
from torch import Tensor

from .count import count_run
from .result import ComponentCount, MaskStep, OperationCount, sum_of


@dataclass(frozen=True)
class SampleStatistics:
    """Cost over images.

    Attributes:
        counts: of every image.
        names: of every image, as the data set has them.
    """

    counts: tuple[OperationCount, ...]
    names: tuple[str, ...]

    @property
    def mean(self) -> OperationCount:
        """Averages of all numbers, rounded; the shape is None if the images differ in it."""
        return _mean(self.counts)

    def spread(self, name: str) -> tuple[float, float]:
        """Mean and standard deviation over the images of 'macs', 'macs_published' or 'tokens'."""
        values = [
            sum(count.tokens.values()) if name == 'tokens' else getattr(count, name)
            for count in self.counts
        ]
        return float(np.mean(values)), float(np.std(values))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON: the averages, and under 'samples' how they vary."""
        result = self.mean.to_dict()
        result['samples'] = dict(
            images=len(self.counts),
            **{
                name: dict(zip(('mean', 'std'), self.spread(name), strict=True))
                for name in ('macs', 'flops', 'macs_published', 'tokens')
            },
        )
        return result


class Picture(NamedTuple):
    """An image: its name, BGR pixels ``(H, W, 3)`` uint8, and labels ``(H, W)`` uint8 or None."""

    name: str
    pixels: np.ndarray
    labels: np.ndarray | None = None

    def resized(self, shape: tuple[int, int]) -> Picture:
        """The same at ``(height, width)``, whatever its proportions were."""
        size = shape[::-1]
        labels = self.labels
        if labels is not None:
            labels = mmcv.imresize(labels, size, interpolation='nearest')
        return Picture(self.name, mmcv.imresize(self.pixels, size), labels)


def dataset_pictures(dataset: Any, images: int, labels: bool = False) -> Iterator[Picture]:
    """Images of a data set as they are stored, spread evenly over it.

    Args:
        dataset: see :func:`validation_set`.
        images: how many; all if the set is smaller.
        labels: read the labels as well, as the set's pipeline does.

    Raises:
        ValueError: for fewer than one image.
        OSError: if a file cannot be read.
    """
    loads = [
        step
        for step in dataset.pipeline.transforms
        if type(step).__name__.startswith('Load')
        and (labels or 'Annotation' not in type(step).__name__)
    ]
    for number in spread_numbers(images, len(dataset)):
        found = dataset.get_data_info(number)
        for load in loads:
            found = load(found)
        name = str(found.get('img_path', number))
        label = found['gt_seg_map'] if labels else None
        if label is not None and label.ndim < 2:
            # The loader drops sides of one pixel.
            label = label.reshape(found['img'].shape[:2])
        yield Picture(name, found['img'], label)


def prepare_batch(
    model: BaseModel, pixels: Sequence[np.ndarray] | np.ndarray
) -> tuple[Tensor, list[SegDataSample]]:
    """What a segmentor takes at inference for images ``(H, W, 3)`` uint8, BGR, of one size.

    The prediction keeps the size of the image: nothing is resized back.
    """
    shape = tuple(pixels[0].shape[:2])
    metas = dict(ori_shape=shape, img_shape=shape, pad_shape=shape, scale_factor=(1.0, 1.0))
    batch = dict(
        inputs=[torch.from_numpy(one.transpose(2, 0, 1).copy()) for one in pixels],
        data_samples=[SegDataSample(metainfo=dict(metas)) for _ in pixels],
    )
    batch = model.data_preprocessor(batch, False)
    return batch['inputs'], batch['data_samples']


def count_samples(
    model: BaseModel,
    config: Config,
    images: int,
    allocation: str = 'model',
    mode: str = 'whole',
    progress: Callable[[int, int], None] | None = None,
    shape: tuple[int, int] | None = (512, 512),
) -> SampleStatistics:
    """Cost on images of the config's validation set, spread evenly over it, one at a time.

    Args:
        model: the config's model, with trained weights if its allocation is to mean anything.
        config: with ``val_dataloader``.
        images: how many; all if the set is smaller.
        allocation, mode: see :func:`~mmseg_arta.analysis.flops.count_operations`.
        progress: told after every image how many are done, of how many.
        shape: ``(height, width)`` that every image is resized to, which is how the papers count;
            None for the sizes that the set's own pipeline makes.

    Raises:
        ValueError: for bad arguments or a config without validation set.
        FileNotFoundError: if the data set is not there.
    """
    if images < 1:
        raise ValueError(f'the number of images must be at least 1, found {images}')
    dataset = validation_set(config)
    total = min(images, len(dataset))
    inputs = _at_own_size(model, dataset, images)
    if shape is not None:
        inputs = _at_size(model, dataset, images, shape)
    counts, names = [], []
    for name, batch, samples in inputs:
        counts.append(
            count_run(
                model,
                lambda inputs=batch, samples=samples: model(inputs, samples, mode='predict'),
                (batch.shape[2], batch.shape[3]),
                allocation,
                mode,
            )
        )
        names.append(name)
        if progress is not None:
            progress(len(counts), total)
    return SampleStatistics(tuple(counts), tuple(names))


def spread_numbers(images: int, length: int) -> list[int]:
    """Numbers of ``images`` items spread evenly over ``length``, all if there are fewer.

    Raises:
        ValueError: for fewer than one.
    """
    if images < 1:
        raise ValueError(f'the number of images must be at least 1, found {images}')
    total = min(images, length)
    return [number * length // total for number in range(total)]


_Prepared = Iterator[tuple[str, Tensor, list[SegDataSample]]]


def _at_size(model: BaseModel, dataset: Any, images: int, shape: tuple[int, int]) -> _Prepared:
    for picture in dataset_pictures(dataset, images):
        yield picture.name, *prepare_batch(model, [picture.resized(shape).pixels])


def _at_own_size(model: BaseModel, dataset: Any, images: int) -> _Prepared:
    for number in spread_numbers(images, len(dataset)):
        batch = model.data_preprocessor(pseudo_collate([dataset[number]]), False)
        samples = batch['data_samples']
        yield str(samples[0].metainfo.get('img_path', number)), batch['inputs'], samples


def validation_set(config: Config, loader: str = 'val_dataloader') -> Any:
    """The data set of ``val_dataloader``, or of another loader.

    Raises:
        ValueError: if the config has none.
        FileNotFoundError: if its files are not there.
    """
    options = config.get(loader)
    if not options:
        raise ValueError(f'config {config.filename} has no {loader}')
    init_default_scope(config.get('default_scope') or 'mmseg')
    root = options.dataset.get('data_root')
    hint = f'data_root is {root!r} (--cfg-options {loader}.dataset.data_root=FOLDER)'
    what = 'validation' if loader == 'val_dataloader' else 'test'
    try:
        dataset = DATASETS.build(options.dataset)
        length = len(dataset)
    except (OSError, AssertionError) as error:
        raise FileNotFoundError(f'{what} set not found: {error}; {hint}') from error
    if not length:
        raise FileNotFoundError(f'the {what} set holds no images; {hint}')
    return dataset


def _mean(counts: Sequence[OperationCount]) -> OperationCount:
    def average(values: Sequence[int]) -> int:
        return round(sum(values) / len(values))

    def component(found: Sequence[ComponentCount]) -> ComponentCount:
        parts = {
            name: component([count.parts.get(name, ComponentCount()) for count in found])
            for name in dict.fromkeys(name for count in found for name in count.parts)
        }
        if parts:
            return sum_of(parts.values(), parts)
        return ComponentCount(
            max(count.params for count in found),
            average([count.macs for count in found]),
            average([count.macs_published for count in found]),
        )

    first = counts[0]
    names = dict.fromkeys(name for count in counts for name in count.components)
    steps = [count.mask_step for count in counts if count.mask_step is not None]
    return OperationCount(
        first.shape if all(count.shape == first.shape for count in counts) else None,
        first.allocation,
        first.mode,
        {
            name: component([count.components.get(name, ComponentCount()) for count in counts])
            for name in names
        },
        {size: average([count.tokens[size] for count in counts]) for size in first.tokens},
        MaskStep(
            average([step.executed for step in steps]), average([step.dense for step in steps])
        )
        if steps
        else None,
        first.uncounted,
    )
