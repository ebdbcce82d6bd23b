"""Runs that go on from a checkpoint do not look for pre-trained weights."""

from __future__ import annotations

import logging

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner, find_latest_checkpoint
from mmseg.registry import HOOKS

from ...models.backbones.pretrained import drop_pretrained


@HOOKS.register_module()
class SkipPretrainedHook(Hook):
    """Drop ``init_cfg`` of type 'Pretrained' where ``load_from`` or ``resume`` fill the model.

    MMEngine loads pre-trained weights first and overwrites them with those of the checkpoint
    afterwards; so a run could not go on where the pre-trained file is gone. A run that is to
    resume and finds nothing to resume from starts with its pre-trained weights.
    """

    def before_run(self, runner: Runner) -> None:
        """Before the weights are initialised."""
        source = runner._load_from
        if source is None and runner._resume:
            source = find_latest_checkpoint(runner.work_dir)
        if source is None:
            return
        skipped = drop_pretrained(runner.model)
        if skipped:
            print_log(
                f'the weights come from {source}: not looking for pre-trained ones of {skipped}',
                logger='current',
                level=logging.INFO,
            )
