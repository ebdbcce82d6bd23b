"""Models made small: configs at reduced depth, and models without memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import nn
from torch.overrides import TorchFunctionMode

from .families import FAMILIES
from .family import Family, Reducer

_DROP_PATHS = ('drop_path', 'drop_path_rate')


def reducers_of(families: Mapping[str, Family]) -> dict[str, Reducer]:
    """The reducer of every registered type that has one.

    Raises:
        ValueError: if two families have one for the same type.
    """
    reducers: dict[str, Reducer] = {}
    for name, family in families.items():
        twice = sorted(reducers.keys() & family.reducers)
        if twice:
            raise ValueError(f'{name} reduces {twice}, and so does a family before it')
        reducers |= family.reducers
    return reducers


#: Reducer of every registered type that has one.
REDUCERS = reducers_of(FAMILIES)


def reduced_model(model_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The same model at the least depth that keeps its structure, at full width.

    Types without a reducer stay as they are, wherever they are in the config. Everywhere drop
    paths become 0, SyncBN becomes BN, and nothing is loaded from checkpoints.

    Args:
        model_cfg: config of a model; not changed.

    Returns:
        A copy made of plain containers.
    """
    return _reduced(model_cfg)


def _reduced(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_reduced(item) for item in value)
    if not isinstance(value, Mapping):
        return value
    config = {key: _reduced(item) for key, item in value.items()}
    config.update({key: 0.0 for key in _DROP_PATHS if isinstance(config.get(key), (int, float))})
    if isinstance(config.get('pretrained'), str):
        config['pretrained'] = None
    if 'init_cfg' in config:
        config['init_cfg'] = _without_checkpoints(config['init_cfg'])
        if not config['init_cfg']:
            del config['init_cfg']
    if config.get('type') == 'SyncBN':
        config['type'] = 'BN'
    reducer = REDUCERS.get(_name(config.get('type')))
    return config if reducer is None else reducer(config)


def _name(kind: Any) -> str:
    """Registered name of a ``type``: a name, one with a scope before it, or a class."""
    return getattr(kind, '__name__', str(kind)).rsplit('.', 1)[-1]


def _without_checkpoints(init_cfg: Any) -> Any:
    if isinstance(init_cfg, list):
        return [item for item in map(_without_checkpoints, init_cfg) if item]
    if isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained':
        return None
    return init_cfg


#: What fills a tensor, which no tensor without memory needs.
_FILLING = frozenset(
    {value for name, value in vars(nn.init).items() if name.endswith('_') and name[0] != '_'}
    | {getattr(torch.Tensor, name) for name in ('fill_', 'normal_', 'uniform_', 'zero_')}
)


class _ShapesAlone(TorchFunctionMode):
    """Leaves out initial values, which take a good part of the time of building a model.

    Stock backbones read the drop rates that they make by ``linspace`` while being built: those
    have values.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs['device'] = 'cpu'
        if func in _FILLING:
            tensor = args[0] if args else kwargs['tensor']
            if tensor.device.type == 'meta':
                return tensor
        return func(*args, **kwargs)


def build_on_meta(model_cfg: Mapping[str, Any]) -> nn.Module:
    """The model, built on the meta device: parameters have shapes, but take no memory.

    Args:
        model_cfg: config of a model; not changed.
    """
    with torch.device('meta'), _ShapesAlone():
        return MODELS.build(dict(model_cfg))
