"""Config files that set an allocation policy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from pprint import pformat
from typing import Any

from mmseg.registry import MODELS

from ..config_files import config_folders, inherited
from ..files import write_text


def policy_fragment(
    base: str | Path,
    target: str | Path,
    allocation: Mapping[str, Any],
    comment: str,
    replaces: bool = True,
) -> str:
    """Text of a config that inherits another one and sets its backbone's allocation policy.

    Args:
        base: the config to inherit. A bundled one is found wherever the package is installed.
        target: where the text will lie; another ``base`` is named relative to it.
        allocation: the policy's config.
        comment: its first line, without the hash.
        replaces: whether the inherited config sets a policy, which this one takes out.
    """
    # MMEngine takes the mark out only where there is something to delete.
    mark = {'_delete_': True} if replaces else {}
    model = dict(backbone=dict(allocation={**mark, **allocation}))
    values = pformat(model, width=90, sort_dicts=False)
    return f'# {comment}\n_base_ = [{_inherited(Path(base), Path(target))}]\nmodel = {values}\n'


def _inherited(base: Path, target: Path) -> str:
    """What stands in ``_base_``: an expression that MMEngine evaluates."""
    base = base.resolve()
    for folder in config_folders('mmseg_arta'):
        if base.is_relative_to(folder):
            return inherited(base.relative_to(folder).with_suffix('').as_posix())
    return repr(Path(os.path.relpath(base, target.resolve().parent)).as_posix())


def write_fragment(path: str | Path, text: str, overwrite: bool = False) -> Path:
    """Write a config whole or not at all.

    Raises:
        FileExistsError: if the file is there and may not be overwritten.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f'{path} exists')
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return path


def with_setting(policy: Mapping[str, Any], setting: Mapping[str, Any]) -> dict[str, Any]:
    """A policy's config with calibrated values in the place where they belong.

    Caps belong to training and to a policy that has them; thresholds to any policy that has
    them, at inference and in training.

    Args:
        policy: config of a policy, or ``dict(train=..., test=...)``.
        setting: ``dict(caps=...)`` or ``dict(thresholds=...)``.

    Raises:
        ValueError: if the policy has no such setting.
    """
    (name,) = setting
    parts = ['train', 'test'] if 'type' not in policy else []
    if parts:
        changed = dict(policy)
        fitting = [part for part in parts if _has(policy[part], name)]
        for part in fitting:
            changed[part] = {**policy[part], **setting}
        if fitting:
            return changed
    elif _has(policy, name):
        return {**policy, **setting}
    types = [policy[part].get('type') for part in parts] or [policy.get('type')]
    raise ValueError(
        f'the allocation policy {" and ".join(types)} has no {name}: choose a config whose policy '
        f'has, such as BatchRatioAllocation'
    )


def _has(policy: Mapping[str, Any], name: str) -> bool:
    kind = MODELS.get(policy['type'])
    return kind is not None and name in signature(kind.__init__).parameters
