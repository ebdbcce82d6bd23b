"""A model is tested, or goes on training, with weights that are its own, whole and finite."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from mmseg.registry import HOOKS
from torch import Tensor, nn

from ...option_checks import check_text, fail
from ...safe_load import weights_for_runner

# How many keys of a kind a message names.
_SHOWN = 3


@HOOKS.register_module()
class CheckWeightsHook(Hook):
    """Stop where a checkpoint and the model do not belong together.

    MMEngine takes what fits and only logs the rest, so the checkpoint of another model is tested
    as if nothing were wrong. Training that begins from ``load_from`` may take a part of a
    checkpoint on purpose, such as the backbone: there at least one weight must fit.

    Args:
        allow: regular expressions for the start of keys that may be missing or left over.

    Raises:
        ValueError: for what is no regular expression; on use, naming the file and keys.
    """

    def __init__(self, allow: Sequence[str] = ()) -> None:
        patterns = (allow,) if isinstance(allow, str) else allow
        if not isinstance(patterns, (list, tuple)):
            raise fail(self, 'allow', 'a list of regular expressions', allow)
        for pattern in patterns:
            check_text(self, allow=pattern)
            try:
                re.compile(pattern)
            except re.error as error:
                expected = f'a list of regular expressions ({error})'
                raise fail(self, 'allow', expected, pattern) from error
        self.allow = tuple(patterns)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Between reading a checkpoint and filling the model."""
        name = str(runner._load_from or 'the checkpoint')
        weights = _weights(checkpoint, name)
        bad = [key for key, value in weights.items() if not _finite(value)]
        if bad:
            raise ValueError(f'{name}: {_some(bad)} not finite: the training has diverged')
        model = _unwrapped(runner.model)
        own = model.state_dict()
        if not own.keys() & weights.keys():
            raise ValueError(
                f'{name} has no weight of {type(model).__name__}: expected keys such as '
                f'{list(own)[:_SHOWN]}, found {list(weights)[:_SHOWN]}'
            )
        if isinstance(runner._train_loop, BaseLoop) and not runner._resume:
            return
        self._check_whole(name, model, weights)

    def _check_whole(self, name: str, model: nn.Module, weights: OrderedDict[str, Any]) -> None:
        # By loading, since modules may bring weights to their sizes.
        try:
            missing, left_over = model.load_state_dict(weights, strict=False)
        except (RuntimeError, ValueError) as error:
            reason = ' '.join(str(error).split())
            raise ValueError(f'{name} is not of this {type(model).__name__}: {reason}') from error
        found = []
        for keys, what in ((missing, 'missing'), (left_over, 'left over')):
            bad = [key for key in keys if not any(re.match(one, key) for one in self.allow)]
            if bad:
                found.append(f'{_some(bad)} {what}')
        if found:
            raise ValueError(
                f'{name} is not of this {type(model).__name__}: {"; ".join(found)}. If that is '
                'meant, name the start of the keys: --cfg-options '
                'default_hooks.weights.allow="[\'backbone.\']"'
            )


def _weights(checkpoint: Mapping[str, Any], name: str) -> OrderedDict[str, Any]:
    """As MMEngine takes them from a checkpoint."""
    try:
        return weights_for_runner(checkpoint)
    except ValueError as error:
        raise ValueError(f'{name}: {error}') from None


def _finite(value: Any) -> bool:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return True
    return bool(torch.isfinite(value).all())


def _unwrapped(model: Any) -> nn.Module:
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def _some(keys: Sequence[str]) -> str:
    more = f' and {len(keys) - _SHOWN} more' if len(keys) > _SHOWN else ''
    verb = 'are' if len(keys) > 1 else 'is'
    return f'{", ".join(keys[:_SHOWN])}{more} {verb}'
