"""Tells scheduled allocation policies how far the training is."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ...models.allocation import AllocationPolicy
from .token_recorder import backbone_of


@HOOKS.register_module()
class AllocationProgressHook(Hook):
    """Feed the share of training iterations that are done to ``RandomAllocation``.

    The share follows from the runner's own iteration count, which checkpoints restore, so
    a resumed run goes on where it stopped. From the first to the last iteration it grows from
    0 to 1. Works with every model whose backbone has an allocation policy.
    """

    def before_train(self, runner: Runner) -> None:
        """Refuse a model in which nothing follows a schedule."""
        policy = getattr(backbone_of(runner.model), 'policy', None)
        if not self._scheduled(policy):
            raise ValueError(
                'AllocationProgressHook: the backbone has no allocation policy with a schedule, '
                f'found {policy}: remove the hook from custom_hooks'
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set the progress of the coming iteration."""
        progress = min(runner.iter / max(runner.max_iters - 1, 1), 1.0)
        for part in self._scheduled(getattr(backbone_of(runner.model), 'policy', None)):
            part.set_progress(progress)

    @staticmethod
    def _scheduled(policy: AllocationPolicy | None) -> list[AllocationPolicy]:
        return [] if policy is None else [part for part in policy.walk() if part.scheduled]
