"""Pre-trained weights: ``init_cfg=dict(type='Pretrained', checkpoint=..., prefix=...)``.

The stock loader takes what fits, skips the rest and only logs it, so a file of another layout
leaves a model at random weights. Here a file fits, apart from what a backbone names, or training
stops before its first iteration. Training from scratch on purpose is ``init_cfg=None``.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from ...safe_load import CheckpointError, load_from_anywhere, weights_of

#: What to do about weights that are not there or do not fit, unless a module knows better.
CONVERT_OR_SCRATCH = (
    'Either bring published weights to this layout (tools/model_converters/convert_checkpoint.py), '
    'or train from scratch on purpose (--cfg-options model.backbone.init_cfg=None).'
)

_OPTIONS = ('type', 'checkpoint', 'prefix', 'map_location')
# How many keys of a kind a message names.
_SHOWN = 5


def is_pretrained(init_cfg: Any) -> bool:
    """Whether ``init_cfg`` asks for a checkpoint.

    Raises:
        ValueError: for a checkpoint in a list, which the stock loader would take in part.
    """
    if isinstance(init_cfg, Mapping):
        return init_cfg.get('type') == 'Pretrained'
    if isinstance(init_cfg, Sequence) and any(is_pretrained(item) for item in init_cfg):
        raise ValueError(
            f"init_cfg: one of type 'Pretrained' must stand alone, found a list {list(init_cfg)}"
        )
    return False


def drop_pretrained(model: nn.Module, held: Collection[str] | None = None) -> list[str]:
    """Have modules of a model not look for a checkpoint when their weights are initialised.

    Args:
        model: ``init_cfg`` of its modules, of other packages too, is changed.
        held: keys of the model's weights that come from elsewhere; a module that has others still
            looks for its own checkpoint. Weights of a module within it that looks for one itself
            do not count, nor do counters of batches. ``None`` stands for all keys.

    Returns:
        names of the modules that would have looked for one, and no longer do.
    """
    found = {}
    for name, module in model.named_modules():
        init_cfg = getattr(module, 'init_cfg', None)
        if isinstance(init_cfg, Mapping) and init_cfg.get('type') == 'Pretrained':
            found[name] = None
        elif isinstance(init_cfg, (list, tuple)):
            # Stock modules may have initialisers beside it.
            kept = [item for item in init_cfg if item.get('type') != 'Pretrained']
            if len(kept) != len(init_cfg):
                found[name] = kept
    lacking = set() if held is None else _owners(model, found, held)
    dropped = [name for name in found if name not in lacking]
    for name in dropped:
        vars(model.get_submodule(name))['init_cfg'] = found[name]
    return dropped


def _owners(model: nn.Module, names: Collection[str], held: Collection[str]) -> set[str]:
    """The innermost of the named modules around each of a model's weights that is not held."""
    owners = set()
    for key in model.state_dict().keys() - set(held):
        if key.endswith('num_batches_tracked'):
            continue
        around = [name for name in names if not name or key.startswith(f'{name}.')]
        if around:
            owners.add(max(around, key=len))
    return owners


def load_pretrained(
    module: nn.Module,
    init_cfg: Mapping[str, Any],
    new: Sequence[str] = (),
    unused: Sequence[str] = (),
    adapt: Callable[[dict[str, Tensor]], None] | None = None,
    ways_on: str = CONVERT_OR_SCRATCH,
) -> None:
    """Load the weights that ``init_cfg`` names, whole or not at all.

    Args:
        module: to be filled.
        init_cfg: ``checkpoint``, a path or address; ``prefix`` ('' unless given), where in the
            file the module's keys are, as ``'backbone.'`` in a segmentor or classifier, whose
            other keys are left alone; ``map_location``, which stock configs have, changes nothing:
            weights are read on the CPU.
        new: regular expressions for the start of the module's keys that a file need not hold, such
            as parts that pre-training does not have. They keep the values they have, and are
            logged.
        unused: likewise for keys below the prefix that the module has no place for, such as a
            classifier's head. They are left out, and logged.
        adapt: brings the weights below the prefix to the module's sizes, in place; for instance
            position embeddings to its grid. PyTorch's metadata are their ``_metadata``.
        ways_on: what to do about a file that is missing or does not fit, for the error.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if ``init_cfg`` has other keys, or keys or shapes do not fit: naming the file,
            what was expected, what was found, and the ways on.
    """
    name = type(module).__name__
    if not is_pretrained(init_cfg):
        raise ValueError(f"{name}.init_cfg must be of type 'Pretrained', found {init_cfg}")
    if set(init_cfg) - set(_OPTIONS) or not init_cfg.get('checkpoint'):
        raise ValueError(
            f'{name}.init_cfg takes checkpoint, prefix and map_location, found {dict(init_cfg)}'
        )
    path, prefix = init_cfg['checkpoint'], init_cfg.get('prefix') or ''
    content = _read(path, name, ways_on)
    weights = _below(prefix, content)
    if adapt is not None:
        adapt(weights)
    own = module.state_dict()
    # Counters that no computation in eval mode reads; older files lack them.
    absent = [key for key in own if key not in weights and not key.endswith('num_batches_tracked')]
    surplus = [key for key in weights if key not in own]
    kept, left_out = _starting(absent, new), _starting(surplus, unused)
    missing = sorted(set(absent) - set(kept))
    unexpected = sorted(set(surplus) - set(left_out))
    shared = own.keys() & weights.keys()
    shapes = [
        f'{key}: {_shape(weights[key])} instead of {_shape(own[key])}'
        for key in sorted(shared)
        if _shape(weights[key]) != _shape(own[key])
    ]
    # Without any shared key this would be training from scratch, whatever a file need not hold.
    if missing or unexpected or shapes or not shared:
        raise ValueError(
            f'{path} does not fit {name} (prefix={prefix!r}): {len(missing)} keys missing '
            f'{missing[:_SHOWN]}, {len(unexpected)} unexpected {unexpected[:_SHOWN]}, '
            f'{len(shapes)} of another shape {shapes[:_SHOWN]}. Expected {len(own)} keys such as '
            f'{list(own)[:_SHOWN]}, found {len(content)} such as {list(content)[:_SHOWN]}'
            f'{_other_prefix(own, content, prefix)}. {_channels(module, own, weights)}{ways_on}'
        )
    fitting: Any = OrderedDict((key, weights[key]) for key in own if key in weights)
    # What was brought to the module's sizes is what the module itself would save.
    fitting._metadata = getattr(own, '_metadata', {})
    module.load_state_dict(fitting, strict=False)
    for keys, what in ((kept, 'are not there: initialised without'), (left_out, 'are unused')):
        if keys:
            print_log(f'{name}: of {path}, {len(keys)} keys {what}: {keys}', logger='current')


def _read(path: str, name: str, ways_on: str) -> Mapping[str, Any]:
    """The weights in a checkpoint, wrapped in a ``state_dict`` or not."""
    elsewhere = '://' in str(path)
    file = Path(path).expanduser()
    if not elsewhere and not file.exists():
        raise FileNotFoundError(
            f'{path}, the pre-trained weights of {name}, does not exist. {ways_on}'
        )
    # MMEngine's loader falls back to one that runs what a file tells it to.
    try:
        content = load_from_anywhere(str(path) if elsewhere else str(file))
    except CheckpointError as error:
        raise ValueError(f'{error}. It is meant for {name}. {ways_on}') from error
    try:
        return weights_of(content)
    except ValueError as error:
        raise ValueError(f'{path} does not fit {name}: {error}. {ways_on}') from None


def _below(prefix: str, content: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """The weights whose keys begin with a prefix, without it, and PyTorch's metadata of them."""
    found: Any = OrderedDict(
        (key[len(prefix) :], value) for key, value in content.items() if key.startswith(prefix)
    )
    metadata = getattr(content, '_metadata', None) or {}
    found._metadata = {
        f'{name}.'[len(prefix) : -1]: about
        for name, about in metadata.items()
        if f'{name}.'.startswith(prefix)
    }
    return found


def _starting(keys: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The keys that start with one of the regular expressions."""
    return [key for key in keys if any(re.match(pattern, key) for pattern in patterns)]


def _shape(value: Any) -> tuple[int, ...] | str:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__


def _other_prefix(own: Iterable[str], content: Iterable[str], prefix: str) -> str:
    """For the error: another prefix below which the file has the module's first key."""
    first = next(iter(own))
    for key in content:
        found = key.removesuffix(first)
        if found not in (key, prefix):
            return f'; prefix={found!r} may be meant'
    return ''


def _channels(module: nn.Module, own: Mapping[str, Any], weights: Mapping[str, Any]) -> str:
    """For the error: that the file is of images with another number of channels."""
    channels = getattr(module, 'in_channels', None)
    for key in own.keys() & weights.keys():
        shape, found = _shape(own[key]), _shape(weights[key])
        if len(shape) != 4 or len(found) != 4 or shape[1] != channels or found[1] == channels:
            continue
        if (shape[0], *shape[2:]) == (found[0], *found[2:]):
            return (
                f'The file is of images with {found[1]} channels, and in_channels is {channels}; '
                f'weights are not spread over other channels: set in_channels={found[1]}, or use '
                f'weights for {channels}. '
            )
    return ''
