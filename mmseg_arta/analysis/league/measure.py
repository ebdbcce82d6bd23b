"""The last stage of a run: quality near boundaries, and operations on the test images.

    python -m mmseg_arta.analysis.league.measure FOLDER CHECKPOINT

``FOLDER`` is that of the run: the configs and the predictions of both tests lie there.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import MMLogger
from PIL import Image

from ...engine.coverage import ignore_index_of
from ...files import write_json
from ..boundary_quality import BoundaryQuality
from ..class_names import classes_of
from ..flops.load import build_model, load_config
from ..flops.samples import SampleStatistics, count_samples, validation_set
from ..visualization import sample_of
from .stages import MODES

#: Bands around class boundaries, in pixels.
WIDTHS = (2, 4, 8)


def prediction_of(folder: Path, image: str | Path) -> Path:
    """The file of an image's prediction, as the stock metric names it."""
    return folder / f'{Path(image).stem}.png'


def read_prediction(path: Path, reduced: bool = False) -> np.ndarray:
    """``(H, W)`` class indices that the stock metric wrote.

    Args:
        path: of the file.
        reduced: the data set leaves out label 0; the metric adds one to what it writes then.

    Raises:
        OSError: if it cannot be read.
    """
    with Image.open(path) as image:
        found = np.asarray(image).astype(np.int64)
    return found - 1 if reduced else found


def boundary_figures(
    pairs: Iterator[tuple[np.ndarray, np.ndarray]], classes: Sequence[str], ignore_index: int = 255
) -> Any:
    """mIoU in bands around class boundaries, boundary IoU and the classes' IoU, in percent.

    Args:
        pairs: predictions and ground truth, ``(H, W)`` each.
        classes: names.
        ignore_index: label of ignored pixels.
    """
    quality = BoundaryQuality(len(classes), WIDTHS, ignore_index=ignore_index)
    for prediction, truth in pairs:
        quality.add(prediction, truth)
    table = quality.table()
    means = table.means()
    return dict(
        mIoU=_known(means['IoU']),
        bands={str(width): _known(means[f'IoU within {width} px']) for width in WIDTHS},
        boundary_iou=_known(means['boundary IoU']),
        classes={name: _known(value) for name, value in zip(classes, table.whole, strict=True)},
    )


def _known(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else float(value)


def count_figures(found: SampleStatistics) -> dict[str, Any]:
    """Operations of an image, in 10^9: mean and standard deviation over the images."""
    result: dict[str, Any] = dict(images=len(found.counts), params=found.counts[0].params)
    for name, key in (('gmacs', 'macs'), ('gmacs_published', 'macs_published')):
        middle, spread = found.spread(key)
        result |= {name: middle / 1e9, f'{name}_std': spread / 1e9}
    result['tokens'], result['tokens_std'] = found.spread('tokens')
    return result


def measure(folder: Path, checkpoint: str, device: str = 'cpu') -> dict[str, Any]:
    """Figures of both modes.

    Args:
        folder: of a run.
        checkpoint: its weights.
        device: of PyTorch.

    Raises:
        OSError, ValueError: if something of it is missing.
    """
    result: dict[str, Any] = dict(boundaries={}, operations={})
    for stage, mode in MODES.items():
        config = load_config(str(folder / f'{stage}.py'))
        data = validation_set(config, 'test_dataloader')
        model = build_model(config, checkpoint).to(device)
        result['boundaries'][stage] = boundary_figures(
            _pairs(data, folder / stage / 'predictions'),
            classes_of(data.metainfo),
            ignore_index_of(model),
        )
        counted = count_samples(model, config, len(data), mode=mode, shape=None)
        result['operations'][stage] = count_figures(counted)
    return result


def _pairs(data: Any, folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    names = [str(data.get_data_info(number)['img_path']) for number in range(len(data))]
    if len({Path(name).stem for name in names}) < len(names):
        raise ValueError('images of the test set share names: their predictions overwrite others')
    for number, name in enumerate(names):
        sample = sample_of(data, number)['data_samples']
        reduced = bool(sample.metainfo.get('reduce_zero_label'))
        truth = sample.gt_sem_seg.data.squeeze(0).numpy()
        prediction = read_prediction(prediction_of(folder, name), reduced)
        # A side of one pixel is dropped by what writes predictions.
        yield prediction.reshape(truth.shape), truth


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path)
    parser.add_argument('checkpoint')
    parser.add_argument('--device', default='cpu')
    args = parser.parse_args(arguments)
    MMLogger.get_current_instance().setLevel('ERROR')
    found = measure(args.folder, args.checkpoint, args.device)
    place = args.folder / 'measure'
    place.mkdir(exist_ok=True)
    write_json(place / 'figures.json', found)


if __name__ == '__main__':
    sys.exit(main())
