"""Runs protocols over models and batch sizes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from . import protocols
from .crew import Progress
from .pictures import PictureStore, store_pictures
from .protocols import Result
from .subjects import Conditions, Model


@dataclass(frozen=True)
class Defaults:
    """What a protocol takes where nothing else is asked for.

    Attributes:
        shape: height and width of the images, pixels.
        batch_sizes: images per step, one run each.
        steps, warmup: measured, and before them.
    """

    shape: tuple[int, int]
    batch_sizes: tuple[int, ...]
    steps: int
    warmup: int


DEFAULTS = {
    'inference': Defaults((1024, 2048), (2,), 128, 10),
    'train': Defaults((1024, 1024), (1, 2, 4, 8), 20, 20),
    'flops': Defaults((512, 512), (1,), 0, 0),
}

#: Given protocol, conditions, steps and those before; returns what is told of the steps.
Announce = Callable[[str, Conditions, int, int], Progress]


def run_protocol(
    protocol: str,
    models: Sequence[Model],
    conditions: Conditions,
    batch_sizes: Sequence[int],
    images: str | None = None,
    steps: int | None = None,
    warmup: int | None = None,
    announce: Announce | None = None,
) -> Result:
    """Run a protocol for every batch size, the models together.

    Args:
        protocol: a name of :data:`~mmseg_arta.analysis.benchmark.protocols.PROTOCOLS`.
        models: what is compared; ratios are to the first.
        conditions: of all; their batch size is ignored.
        batch_sizes: images per step; for 'flops' always 1.
        images: see :func:`~mmseg_arta.analysis.benchmark.pictures.store_pictures`.
        steps, warmup: by default those of :data:`DEFAULTS`.
        announce: says what begins, and shows progress.

    Raises:
        OSError, ValueError: if images, checkpoints or settings do not fit.
    """
    default = DEFAULTS[protocol]
    steps = default.steps if steps is None else steps
    warmup = default.warmup if warmup is None else warmup
    sizes = (1,) if protocol == 'flops' else tuple(batch_sizes)
    results = []
    with tempfile.TemporaryDirectory(prefix='benchmark-') as folder:
        pictures = _pictures(protocol, models, conditions, max(sizes), images, steps, Path(folder))
        for size in sizes:
            here = replace(conditions, batch_size=size)
            progress = None if announce is None else announce(protocol, here, steps, warmup)
            if protocol == 'flops':
                results.append(protocols.flops(models, here, pictures, progress))
            else:
                measure = protocols.train if protocol == 'train' else protocols.inference
                results.append(measure(models, here, pictures, steps, warmup, progress))
    rows = [row for result in results for row in result.rows]
    remarks = dict.fromkeys(remark for result in results for remark in result.remarks)
    return replace(results[0], rows=rows, remarks=tuple(remarks))


def _pictures(
    protocol: str,
    models: Sequence[Model],
    conditions: Conditions,
    batch_size: int,
    images: str | None,
    steps: int,
    folder: Path,
) -> PictureStore:
    at_most = batch_size
    if images is not None:
        # All of them for operations, whose mean and deviation is asked for.
        at_most = 10**6 if protocol == 'flops' else steps * batch_size
    first = models[0].config, models[0].options
    return store_pictures(images, conditions.shape, folder, at_most, first, protocol == 'train')
