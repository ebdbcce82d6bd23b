"""Reading published checkpoint files, converting, checking and writing them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..files import replaced
from ..safe_load import CheckpointError, load_safely
from ..version import __version__
from .rules import CONVERTERS

# Keys that training scripts wrap a model's weights in.
_WRAPPERS = ('state_dict', 'model', 'model_state_dict', 'module')


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Weights in a checkpoint file, without what training scripts wrap around them.

    Args:
        path: of a file written by ``torch.save``, see :func:`load_safely`.

    Raises:
        CheckpointError: if there is no such file, or something else than weights in it.
    """
    content = load_safely(path)
    for _ in _WRAPPERS:
        inner = [key for key in _WRAPPERS if isinstance(_get(content, key), Mapping)]
        if not inner:
            break
        content = content[inner[0]]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            f'{path}: expected a state dict, alone or under one of {list(_WRAPPERS)}, found '
            f'{type(content).__name__}'
        )
    others = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise CheckpointError(
            f'{path}: expected a state dict, alone or under one of {list(_WRAPPERS)}, found '
            f'values that are no tensors: {others[:20]}'
        )
    if all(str(key).startswith('module.') for key in content):
        content = {key.removeprefix('module.'): value for key, value in content.items()}
    return dict(content)


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def convert_state_dict(
    family: str, state_dict: Mapping[str, Tensor], options: Mapping[str, Any] | None = None
) -> dict[str, Tensor]:
    """Published weights in our layout; those of our own pre-training have it already.

    Args:
        family: a key of :data:`~mmseg_arta.checkpoints.CONVERTERS`.
        state_dict: in the authors' layout, or of a classifier trained with ``configs/imagenet``.
        options: of the family's converter.

    Raises:
        CheckpointError: for an unknown family or option, or with all keys that do not belong
            to the family's layouts.
    """
    if family not in CONVERTERS:
        raise CheckpointError(f'unknown family {family!r}, expected one of {sorted(CONVERTERS)}')
    convert = CONVERTERS[family]
    options = dict(options or {})
    if is_own_classifier(state_dict):
        if options:
            raise CheckpointError(
                f"{family}: the checkpoint is of this package's own pre-training, which takes no "
                f'options, found {sorted(options)}'
            )
        return dict(state_dict)
    known = list(inspect.signature(convert).parameters)[1:]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise CheckpointError(f'{family}: unknown options {unknown}, expected some of {known}')
    try:
        return convert(state_dict, **options)
    except ValueError as error:
        raise CheckpointError(f'{family}: {error}') from error


def is_own_classifier(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether weights come from ``configs/imagenet``: those of an ``ImageClassifier``.

    No published checkpoint has a backbone and a head of these names.
    """
    parts = {key.partition('.')[0] for key in state_dict}
    return parts == {'backbone', 'head'} and 'head.fc.weight' in state_dict


def check_weights(
    state_dict: Mapping[str, Tensor], model: nn.Module, allow_missing: Sequence[str] = ()
) -> None:
    """Compare converted weights with a model; buffers count too.

    Args:
        state_dict: in our layout.
        model: may be on the meta device.
        allow_missing: regular expressions; keys that one of them matches somewhere may miss.

    Raises:
        CheckpointError: with all keys that are too many, missing or of another shape.
    """
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    given = {key: tuple(value.shape) for key, value in state_dict.items()}
    surplus = [key for key in given if key not in wanted]
    missing = [
        key
        for key in wanted
        if key not in given and not any(re.search(pattern, key) for pattern in allow_missing)
    ]
    shapes = [
        f'{key} {list(given[key])} instead of {list(wanted[key])}'
        for key in given
        if key in wanted and given[key] != wanted[key]
    ]
    problems = [
        f'{len(keys)} {kind}: {", ".join(keys)}'
        for kind, keys in (
            ('keys that the model does not have', surplus),
            ('keys missing', missing),
            ('keys of another shape', shapes),
        )
        if keys
    ]
    if problems:
        raise CheckpointError('the converted weights do not fit the config: ' + '; '.join(problems))


def write_checkpoint(
    state_dict: Mapping[str, Tensor], path: str | Path, meta: Mapping[str, Any] | None = None
) -> None:
    """Write a checkpoint that mmengine reads; an interrupted run leaves no half of a file.

    Args:
        state_dict: weights.
        path: of the file, replaced if it exists.
        meta: plain values about the checkpoint.

    Raises:
        CheckpointError: if the file cannot be written there.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f'{path}: is a folder, expected the name of a file')
    if not path.parent.is_dir():
        raise CheckpointError(f'{path}: there is no folder {path.parent}')
    content = dict(state_dict=dict(state_dict), meta=dict(meta or {}, mmseg_arta=__version__))
    try:
        with replaced(path) as part:
            torch.save(content, part)
    except OSError as error:
        raise CheckpointError(f'{path}: cannot be written ({error.strerror})') from error
