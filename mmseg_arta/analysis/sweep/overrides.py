"""Command-line options that make a run of any config small."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .subject import Subject

SIDE = 128
ITERATIONS = 2
_LOADERS = ('train', 'val', 'test')
#: Options of transforms that are sizes in pixels.
_SIZES = ('scale', 'scales', 'crop_size', 'max_size', 'size')


def overrides(subject: Subject, data_root: Path, side: int = SIDE) -> dict[str, Any]:
    """``--cfg-options`` for two iterations and a test on a toy data set.

    Crops, windows and image sizes shrink by one factor, so that the crop's shorter side is
    ``side`` pixels. Nothing is loaded from checkpoints.
    """
    config = subject.config
    factor = side / min(config.model.data_preprocessor['size'])
    found: dict[str, Any] = {
        'train_cfg.max_iters': ITERATIONS,
        'train_cfg.val_interval': 10**9,
        'default_hooks.checkpoint.interval': ITERATIONS,
        'default_hooks.checkpoint.save_best': None,
        'default_hooks.checkpoint.save_optimizer': False,
        'default_hooks.logger.interval': 1,
        'model.data_preprocessor.size': _scaled(config.model.data_preprocessor['size'], factor),
    }
    for loader in _LOADERS:
        key = f'{loader}_dataloader'
        found |= {
            f'{key}.num_workers': 0,
            f'{key}.persistent_workers': False,
            f'{key}.batch_size': 2 if loader == 'train' else 1,
        }
        dataset = subject.dataset_key(key)
        found[f'{dataset}.data_root'] = str(data_root)
        found |= _smaller_pipeline(subject, f'{dataset}.pipeline', factor)
    for key in ('crop_size', 'stride'):
        if key in config.model.get('test_cfg', {}):
            found[f'model.test_cfg.{key}'] = _scaled(config.model.test_cfg[key], factor)
    for key in _checkpoints(config.model, 'model'):
        found[key] = None
    if config.get('load_from'):
        found['load_from'] = None
    return found


def as_arguments(options: Mapping[str, Any]) -> list[str]:
    """Options as arguments of the stock command lines."""
    return ['--cfg-options', *(f'{key}={_text(value)}' for key, value in options.items())]


def _text(value: Any) -> str:
    return str(value).replace(' ', '') if isinstance(value, (list, tuple)) else str(value)


def _smaller_pipeline(subject: Subject, key: str, factor: float) -> dict[str, Any]:
    return {
        f'{key}.{number}.{name}': _scaled(step[name], factor)
        for number, step in enumerate(subject.at(key))
        for name in _SIZES
        if step.get(name) is not None
    }


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_scaled(item, factor) for item in value)
    return max(round(value * factor), 1)


def _checkpoints(value: Any, key: str) -> Iterator[str]:
    """Keys of everything that would be loaded into a model."""
    if isinstance(value, Mapping):
        if isinstance(value.get('pretrained'), str):
            yield f'{key}.pretrained'
        init = value.get('init_cfg')
        if isinstance(init, Mapping) and init.get('type') == 'Pretrained':
            yield f'{key}.init_cfg'
        items: Any = value.items()
    else:
        items = enumerate(value) if isinstance(value, (list, tuple)) else ()
    for name, item in items:
        yield from _checkpoints(item, f'{key}.{name}')
