"""From a config's name to a model that can be counted."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_state_dict
from torch import nn

from ...config_files import find_config
from ...safe_load import CheckpointError, load_from_anywhere, weights_of

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
        ValueError: if it cannot be built here, or the checkpoint does not fit or holds more than
            tensors and plain values.
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
            load_weights(model, load_from_anywhere(checkpoint))
        except CheckpointError as error:
            raise ValueError(f'checkpoint {_in_one_line(error)}') from error
        except Exception as error:
            raise ValueError(
                f'checkpoint {checkpoint!r} does not fit {name}: {_in_one_line(error)}'
            ) from error
    return model.eval()


def load_weights(model: nn.Module, content: Any) -> None:
    """Give a model the weights of a checkpoint that has been read, wrapped or not.

    MMEngine's ``load_checkpoint`` does the same, but runs what a file tells it to.

    Raises:
        RuntimeError: if not all keys are there, or others.
        ValueError: if there are no weights by key.
    """
    weights = weights_of(content)
    # Parallel training has put its module around the model.
    named: Any = OrderedDict((key.removeprefix('module.'), weights[key]) for key in weights)
    named._metadata = getattr(weights, '_metadata', OrderedDict())
    load_state_dict(model, named, strict=True)


def _in_one_line(error: Exception) -> str:
    text = ' '.join(str(error).split()) or type(error).__name__
    return text if len(text) <= _REASON else f'{text[:_REASON]} ...'
