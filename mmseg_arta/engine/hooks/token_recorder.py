"""A hook that keeps the tokens of the latest forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.models.segmentors import BaseSegmentor
from torch import nn

from ...structures import MixedTokens
from ..windows import Window, windows_of


class TokenRecorderHook(Hook):
    """Base of hooks that look at which tokens a backbone returned.

    Tokens are taken from the backbone's output, so models carry no code for it. A
    backbone that returns something else is an error when the run starts to use it. Places
    and scores are kept, see :func:`without_features`.
    """

    def __init__(self) -> None:
        self._tokens: list[MixedTokens] = []
        self._handle: Any = None
        self._told = False

    def before_run(self, runner: Runner) -> None:
        """Start to record."""
        backbone = backbone_of(runner.model)
        self._handle = backbone.register_forward_hook(self._record)

    def after_run(self, runner: Runner) -> None:
        """Stop to record."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _record(self, module: nn.Module, args: Any, output: Any) -> None:
        if not isinstance(output, MixedTokens):
            raise TypeError(
                f'{type(self).__name__} needs a backbone that returns MixedTokens, '
                f'{type(module).__name__} returned {type(output).__name__}: remove '
                'the hook from custom_hooks'
            )
        self._tokens.append(without_features(output))

    def take(self) -> list[MixedTokens]:
        """Tokens of all forward passes since the last call: several in slide inference."""
        taken, self._tokens = self._tokens, []
        return taken

    def take_windows(self, runner: Runner, samples: Sequence[Any]) -> list[Window] | None:
        """What :meth:`take` gives, with places: see :func:`~..windows.windows_of`.

        If these cannot be told, the log says why, once.
        """

        def tell(reason: str) -> None:
            self._say_once(runner, reason)

        return windows_of(self.take(), samples, segmentor_of(runner.model).test_cfg, tell)

    def _say_once(self, runner: Runner, reason: str) -> None:
        """Log why images are left out, if it has not been logged yet."""
        if not self._told:
            runner.logger.warning(f'{type(self).__name__} leaves out images: {reason}')
            self._told = True


def without_features(tokens: MixedTokens) -> MixedTokens:
    """Tokens without features, ``(T, 0)``, and without the gradient of their scores.

    Neither the features of all windows of an image nor the graph of a training step then stay in
    memory as long as the tokens do.
    """
    # Not with_feats: what was computed of the places would stay, too.
    levels = tuple(
        replace(level, feats=level.feats.new_empty((len(level), 0))) for level in tokens.levels
    )
    rounds = tuple(replace(record, scores=record.scores.detach()) for record in tokens.rounds)
    return replace(tokens, levels=levels, rounds=rounds)


def backbone_of(model: nn.Module) -> nn.Module:
    """The backbone of a segmentor, see :func:`segmentor_of`."""
    return segmentor_of(model).backbone


def segmentor_of(model: nn.Module) -> BaseSegmentor:
    """A segmentor, unwrapped from distributed and test-time wrappers.

    Raises:
        TypeError: if there is none.
    """
    found: Any = model
    while is_model_wrapper(found):
        found = found.module
    # Test-time augmentation wraps the segmentor as its module.
    if not hasattr(found, 'backbone') and hasattr(found, 'module'):
        found = found.module
    if not hasattr(found, 'backbone'):
        raise TypeError(f'expected a segmentor with a backbone, found {type(found).__name__}')
    return found
