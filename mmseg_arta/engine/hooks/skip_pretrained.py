"""Runs that go on from a checkpoint do not look for the pre-trained weights that it replaces."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner, find_latest_checkpoint
from mmseg.registry import HOOKS

from ...models.backbones.pretrained import drop_pretrained
from ...safe_load import CheckpointError, load_from_anywhere, weights_for_runner


@HOOKS.register_module()
class SkipPretrainedHook(Hook):
    """Drop ``init_cfg`` of type 'Pretrained' where ``load_from`` or ``resume`` fill the module.

    MMEngine loads pre-trained weights first and overwrites them with those of the checkpoint
    afterwards; so a run could not go on where the pre-trained file is gone. A run that is to
    resume and finds nothing to resume from starts with its pre-trained weights. A checkpoint that
    is loaded may hold a part of the model, such as all but the policy network, or the head alone:
    modules of which it lacks a weight start from their pre-trained file.
    """

    def before_run(self, runner: Runner) -> None:
        """Before the weights are initialised."""
        source, held = runner._load_from, None
        if runner._resume:
            source = source or find_latest_checkpoint(runner.work_dir)
        elif source is not None and isinstance(runner._train_loop, BaseLoop):
            held = _keys(str(source))
        if source is None:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        skipped = drop_pretrained(model, held)
        if skipped:
            print_log(
                f'the weights come from {source}: not looking for pre-trained ones of {skipped}',
                logger='current',
                level=logging.INFO,
            )


def _keys(source: str) -> Collection[str]:
    """Keys of the weights in a checkpoint, or none where it cannot be read safely."""
    path = Path(source).expanduser()
    if '://' not in source and not path.is_file():
        # Rather than what is said about a pre-trained file that may be missing as well.
        raise FileNotFoundError(f'{source}, the checkpoint of load_from, does not exist')
    try:
        content = load_from_anywhere(source if '://' in source else str(path), mapped=True)
        return weights_for_runner(content).keys()
    except ValueError as error:
        what = error if isinstance(error, CheckpointError) else f'{source}: {error}'
        print_log(
            f'{what}. Which modules it fills is not known: all look for their pre-trained weights',
            logger='current',
            level=logging.WARNING,
        )
        return ()
