"""Rules that reduce the depth of models, by registered type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Reducer = Callable[[dict[str, Any]], dict[str, Any]]

#: Rule of every registered type that has one.
REDUCERS: dict[str, Reducer] = {}

_DROP_PATHS = ('drop_path', 'drop_path_rate')


def reduces(*types: str) -> Callable[[Reducer], Reducer]:
    """Decorator: the function reduces the configs of modules of these registered types.

    It takes and returns the config of one module, ``type`` included, and may change what it is
    given. Drop paths, checkpoints and SyncBN are seen to before it is called.

    Raises:
        ValueError: if a type has a rule already.
    """

    def register(rule: Reducer) -> Reducer:
        for name in types:
            if name in REDUCERS:
                raise ValueError(f'{name} has a rule already: {REDUCERS[name].__module__}')
            REDUCERS[name] = rule
        return rule

    return register


def reduced_model(model_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The same model at the least depth that keeps its structure, at full width.

    Types without a rule stay as they are, wherever they are in the config. Everywhere drop
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
    found = {key: _reduced(item) for key, item in value.items()}
    found.update({key: 0.0 for key in _DROP_PATHS if isinstance(found.get(key), (int, float))})
    if isinstance(found.get('pretrained'), str):
        found['pretrained'] = None
    if 'init_cfg' in found:
        found['init_cfg'] = _without_checkpoints(found['init_cfg'])
        if not found['init_cfg']:
            del found['init_cfg']
    if found.get('type') == 'SyncBN':
        found['type'] = 'BN'
    rule = REDUCERS.get(_name(found.get('type')))
    return found if rule is None else rule(found)


def _name(kind: Any) -> str:
    """Registered name of a ``type``: a name, one with a scope before it, or a class."""
    return getattr(kind, '__name__', str(kind)).rsplit('.', 1)[-1]


def _without_checkpoints(init_cfg: Any) -> Any:
    if isinstance(init_cfg, list):
        return [item for item in map(_without_checkpoints, init_cfg) if item]
    if isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained':
        return None
    return init_cfg
