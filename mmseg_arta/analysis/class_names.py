"""Names and colours of a config's classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmseg.registry import DATASETS

from ..safe_load import CheckpointError, load_safely

Names = Sequence[str] | None
Colours = Sequence[Sequence[int]] | None


def class_names(config: Config, checkpoint: str | None = None) -> tuple[Names, Colours]:
    """What the classes are called, and their RGB colours.

    As the checkpoint says, which knows the data set that it was trained on, else as the config's
    data set says. None where neither says it, or there are not as many as the model has.

    Args:
        config: of the model.
        checkpoint: a file with its weights.
    """
    wanted = config.model.get('decode_head', {})
    wanted = wanted[-1] if isinstance(wanted, (list, tuple)) else wanted
    for meta in (_of_checkpoint(checkpoint), _of_data(config)):
        classes, palette = meta.get('classes'), meta.get('palette')
        if classes and len(classes) == wanted.get('num_classes', len(classes)):
            fits = palette is not None and len(palette) == len(classes)
            return list(classes), palette if fits else None
    return None, None


def classes_of(metainfo: Mapping[str, Any]) -> Sequence[str]:
    """The names in the ``metainfo`` of a data set.

    Raises:
        ValueError: if there are none.
    """
    classes = metainfo.get('classes')
    if not classes:
        raise ValueError('the data set names no classes: set metainfo=dict(classes=...)')
    return classes


def _of_checkpoint(name: str | None) -> Mapping[str, Any]:
    if name is None or not Path(name).is_file():
        return {}
    try:
        content = load_safely(name)
    except CheckpointError:
        return {}
    meta = content.get('meta', {}) if isinstance(content, Mapping) else {}
    return meta.get('dataset_meta') or {}


def _of_data(config: Config) -> Mapping[str, Any]:
    for loader in ('test_dataloader', 'val_dataloader', 'train_dataloader'):
        dataset = (config.get(loader) or {}).get('dataset') or {}
        while isinstance(dataset, Mapping) and 'dataset' in dataset:
            dataset = dataset['dataset']
        if not isinstance(dataset, Mapping) or 'type' not in dataset:
            continue
        kind = DATASETS.get(dataset['type']) if isinstance(dataset['type'], str) else None
        meta = {**getattr(kind, 'METAINFO', {}), **(dataset.get('metainfo') or {})}
        if meta.get('classes'):
            return meta
    return {}
