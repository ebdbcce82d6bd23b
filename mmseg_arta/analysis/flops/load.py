"""From a config's name to a model that can be counted."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmseg
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint
from torch import nn

_PACKAGE = Path(__file__).resolve().parents[2]
_MMSEG = Path(mmseg.__file__).resolve().parent


_PACKAGES = {'mmseg_arta': _PACKAGE, 'mmseg': _MMSEG}

# Characters of an error of another library: a checkpoint that does not fit names all its keys.
_REASON = 400


def config_folders(package: str = '') -> list[Path]:
    """Where configs are looked up by name: this package's, then MMSegmentation's, or one's own."""
    places = [
        place
        for name, folder in _PACKAGES.items()
        if package in ('', name)
        for place in (folder / '.mim' / 'configs', folder.parent / 'configs')
    ]
    return [place for place in places if place.is_dir()]


def find_config(name: str) -> Path:
    """The file of a config.

    Args:
        name: a path, or the file name of a config of this package or of MMSegmentation, with or
            without '.py'; as in OpenMMLab's configs 'mmseg::' or 'mmseg_arta::' before it says
            whose, and folders may stand between.

    Raises:
        FileNotFoundError: if there is none.
    """
    package, _, rest = name.rpartition('::')
    if not package and Path(name).is_file():
        return Path(name)
    if package and package not in _PACKAGES:
        known = ', '.join(f'{known}::' for known in _PACKAGES)
        raise FileNotFoundError(f'config {name!r}: configs are known of {known}, not {package}::')
    for folder in config_folders(package):
        relative = f'{rest.removesuffix(".py")}.py'
        if (folder / relative).is_file():
            return folder / relative
        found = sorted(folder.rglob(relative)) if '/' not in rest and rest else []
        if found:
            return found[0]
    places = ', '.join(str(folder) for folder in config_folders(package))
    raise FileNotFoundError(f'config {name!r} is neither a file nor the name of one in {places}')


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
