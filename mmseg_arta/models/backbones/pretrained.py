"""Loading pre-trained weights of a backbone, strictly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.runner import CheckpointLoader
from torch import Tensor, nn


def is_pretrained(init_cfg: Any) -> bool:
    """Whether ``init_cfg`` asks for a checkpoint."""
    return isinstance(init_cfg, Mapping) and init_cfg.get('type') == 'Pretrained'


def load_pretrained(module: nn.Module, init_cfg: Mapping[str, Any]) -> None:
    """Load ``dict(type='Pretrained', checkpoint=..., prefix=...)``, whole or not at all.

    The stock loader skips what does not fit and only logs it, so a checkpoint of another layout
    would leave the model untrained.

    Args:
        module: takes every weight below the prefix.
        init_cfg: the checkpoint's path or address; ``prefix`` ('' unless given) is where
            the module's keys are, as ``'backbone.'`` in a segmentor's checkpoint.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if ``init_cfg`` has other keys, or keys or shapes do not fit.
    """
    name = type(module).__name__
    unknown = sorted(set(init_cfg) - {'type', 'checkpoint', 'prefix', 'map_location'})
    if unknown or not init_cfg.get('checkpoint'):
        raise ValueError(
            f'{name}.init_cfg takes checkpoint, prefix and map_location, found {dict(init_cfg)}'
        )
    path, prefix = init_cfg['checkpoint'], init_cfg.get('prefix') or ''
    loaded = CheckpointLoader.load_checkpoint(path, init_cfg.get('map_location', 'cpu'))
    loaded = loaded.get('state_dict', loaded)
    weights = {key[len(prefix) :]: v for key, v in loaded.items() if key.startswith(prefix)}
    own = module.state_dict()
    missing = sorted(own.keys() - weights.keys())
    unexpected = sorted(weights.keys() - own.keys())
    shapes = [
        f'{key}: {tuple(weights[key].shape)} instead of {tuple(own[key].shape)}'
        for key in own.keys() & weights.keys()
        if weights[key].shape != own[key].shape
    ]
    if missing or unexpected or shapes:
        raise ValueError(
            f'{path} does not fit {name} (prefix={prefix!r}): {len(missing)} keys missing '
            f'{missing[:5]}, {len(unexpected)} unexpected {unexpected[:5]}, {len(shapes)} of '
            f'another shape {sorted(shapes)[:5]}. Published weights are brought to this layout '
            f'by tools/model_converters/convert_checkpoint.py.'
        )
    module.load_state_dict(weights, strict=True)


def load_exactly(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load weights that must fit in every name and shape.

    Args:
        module: to be filled.
        weights: its state dict.
        source: the checkpoint's name, for the message.

    Raises:
        ValueError: naming what does not fit.
    """
    own = module.state_dict()
    # Counters that no computation in eval mode reads; older files lack them.
    counters = {key for key in own if key.endswith('num_batches_tracked')}
    missing = sorted(own.keys() - weights.keys() - counters)
    unknown = sorted(weights.keys() - own.keys())
    other = [
        f'{key} is {tuple(weights[key].shape)}, expected {tuple(own[key].shape)}'
        for key in sorted(own.keys() & weights.keys())
        if own[key].shape != weights[key].shape
    ]
    if missing or unknown or other:
        raise ValueError(
            f'{source} does not fit {type(module).__name__}: '
            f'missing {missing[:10]} ({len(missing)}), not expected {unknown[:10]} '
            f'({len(unknown)}), other shapes {other[:10]} ({len(other)})'
        )
    module.load_state_dict(dict(weights), strict=False)
