"""The same images for all models side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmengine.config import Config

from ...engine.drawing import Panel, class_legend, draw_labels
from ..class_names import classes_of
from ..flops.samples import spread_numbers, validation_set
from ..visualization import sample_of, write
from .measure import prediction_of, read_prediction
from .results import labels_of, summaries

_WIDTH = 280


def models_with_predictions(
    results: Mapping[str, Any], folder: Path
) -> list[tuple[str, Path, Config]]:
    """Label, folder of predictions and test config of every config's first seed that has them.

    Args:
        results: see :func:`~.results.collect`.
        folder: of the league.
    """
    every = summaries(results)
    labels = labels_of(every)
    found = []
    for one in every:
        for seed in one.seeds:
            run = folder / one.key / f'seed{seed}'
            predictions, config = run / 'whole' / 'predictions', run / 'whole.py'
            if predictions.is_dir() and config.is_file():
                found.append((labels[one.key], predictions, Config.fromfile(config)))
                break
    return found


def draw_sheet(results: Mapping[str, Any], folder: Path, path: Path, images: int) -> bool:
    """Image, ground truth and a column per model, for images spread evenly over the test set.

    Args:
        results: see :func:`~.results.collect`.
        folder: of the league, where predictions lie.
        path: a PNG file, whole or not at all.
        images: how many.

    Returns:
        False if there are no predictions.

    Raises:
        OSError: if an image, or a prediction of one, cannot be read.
        ValueError: for less than one image.
    """
    models = models_with_predictions(results, folder)
    if not models:
        return False
    data = validation_set(models[0][2], 'test_dataloader')
    rows: list[list[Panel]] = []
    shown: list[np.ndarray] = []
    classes: Sequence[str] = classes_of(data.metainfo)
    palette: Sequence[Sequence[int]] = data.metainfo['palette']
    for number in spread_numbers(images, len(data)):
        name = str(data.get_data_info(number)['img_path'])
        sample = sample_of(data, number)['data_samples']
        truth = sample.gt_sem_seg.data.squeeze(0).numpy()
        row = [
            Panel('image', Path(name).stem, mmcv.imread(name, channel_order='rgb')),
            Panel('truth', 'ground truth', draw_labels(truth, palette)),
        ]
        shown.append(truth)
        reduced = bool(sample.metainfo.get('reduce_zero_label'))
        for label, predictions, _ in models:
            prediction = read_prediction(prediction_of(predictions, name), reduced)
            row.append(Panel('prediction', label, draw_labels(prediction, palette)))
            shown.append(prediction)
        rows.append(row)
    write(rows, class_legend(shown, classes, palette), path, _WIDTH, colours=256)
    return True
