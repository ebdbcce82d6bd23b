"""From a config's name to a model that can be counted."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint
from torch import nn

from ...config_files import find_config

# Characters of an error of another library: a checkpoint that does not fit names all its keys.
_REASON = 400


def load_config(name: str, options: Mapping[str, Any] | None = None) -> Config:
    """Load a config, with options of the command line merged in.

    Raises:
        FileNotFoundError: if there is none of that name.
        ValueError: if the file is no config of a model.
    """
    path = find_config(name)
    try:
        config = Config.fromfile(path)
        # A copy: merging takes '_delete_' out of what it is given.
        config.merge_from_dict(copy.deepcopy(dict(options or {})))
    except Exception as error:
        raise ValueError(f'config {path} cannot be read: {_in_one_line(error)}') from error
    if not config.get('model'):
        raise ValueError(f'config {path} has no model')
    return config


def build_model(config: Config, checkpoint: str | None = None) -> nn.Module:
    """The model of a config, for inference, without pretrained weights unless they are given.

    Raises:
        ValueError: if it cannot be built here or the checkpoint does not fit.
        FileNotFoundError: if there is no such checkpoint.
    """
    init_default_scope(config.get('default_scope', 'mmseg'))
    name = Path(config.filename or 'config').name
    try:
        model = revert_sync_batchnorm(MODELS.build(config.model))
    except Exception as error:
        raise ValueError(f'the model of {name} cannot be built: {_in_one_line(error)}') from error
    if checkpoint is not None:
        if '://' not in checkpoint and not Path(checkpoint).is_file():
            raise FileNotFoundError(f'checkpoint {checkpoint!r} does not exist')
        try:
            load_checkpoint(model, checkpoint, map_location='cpu', strict=True)
        except Exception as error:
            raise ValueError(
                f'checkpoint {checkpoint!r} does not fit {name}: {_in_one_line(error)}'
            ) from error
    return model.eval()


def _in_one_line(error: Exception) -> str:
    text = ' '.join(str(error).split()) or type(error).__name__
    return text if len(text) <= _REASON else f'{text[:_REASON]} ...'
