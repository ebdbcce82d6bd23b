"""Counting over images of a data set: what a model with a token count of its own really costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from mmseg.registry import DATASETS

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


def count_samples(
    model: BaseModel,
    config: Config,
    images: int,
    allocation: str = 'model',
    mode: str = 'config',
    progress: Callable[[int, int], None] | None = None,
) -> SampleStatistics:
    """Cost on images of the config's validation set, spread evenly over it, one at a time.

    Args:
        model: the config's model, with trained weights if its allocation is to mean anything.
        config: with ``val_dataloader``.
        images: how many; all if the set is smaller.
        allocation, mode: see :func:`~mmseg_arta.analysis.flops.count_operations`.
        progress: told after every image how many are done, of how many.

    Raises:
        ValueError: for bad arguments or a config without validation set.
        FileNotFoundError: if the data set is not there.
    """
    if images < 1:
        raise ValueError(f'the number of images must be at least 1, found {images}')
    dataset = _validation_set(config)
    total = min(images, len(dataset))
    counts, names = [], []
    for number in range(total):
        sample = dataset[number * len(dataset) // total]
        batch = model.data_preprocessor(pseudo_collate([sample]), False)
        inputs, samples = batch['inputs'], batch['data_samples']
        counts.append(
            count_run(
                model,
                lambda inputs=inputs, samples=samples: model(inputs, samples, mode='predict'),
                (inputs.shape[2], inputs.shape[3]),
                allocation,
                mode,
            )
        )
        names.append(str(samples[0].metainfo.get('img_path', number)))
        if progress is not None:
            progress(number + 1, total)
    return SampleStatistics(tuple(counts), tuple(names))


def _validation_set(config: Config) -> Any:
    loader = config.get('val_dataloader')
    if not loader:
        raise ValueError(f'config {config.filename} has no val_dataloader')
    root = loader.dataset.get('data_root')
    hint = f'data_root is {root!r} (--cfg-options val_dataloader.dataset.data_root=FOLDER)'
    try:
        dataset = DATASETS.build(loader.dataset)
        length = len(dataset)
    except (OSError, AssertionError) as error:
        raise FileNotFoundError(f'validation set not found: {error}; {hint}') from error
    if not length:
        raise FileNotFoundError(f'the validation set holds no images; {hint}')
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
