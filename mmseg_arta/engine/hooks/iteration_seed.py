"""Random numbers that follow from seed, process and iteration alone.

A resumed run is then bit for bit the run that was never interrupted, and neither validation nor
what a run has drawn before changes what it draws next.
"""

from __future__ import annotations

from typing import Any

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ...datasets.draws import seed_all

# What is seeded; part of the seed, so that no two of them draw the same numbers.
_EPOCH, _TRAIN, _VAL, _TEST = range(4)


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Seed Python, NumPy and PyTorch before every epoch and iteration.

    MMEngine's checkpoints hold no states of generators, so with the stock hooks a resumed run
    allocates other tokens, drops other paths and mixes other images than one that ran through.
    Here all of these follow from the run's seed, the process and the iteration. The config has to
    state that seed (``randomness``), as the bundled ones do: MMEngine builds samplers before it
    restores the seed of a checkpoint.

    In runs of iterations, pipelines take part by ``SeedByDraw`` behind ``NumberedInfiniteSampler``.
    In runs of epochs, data loaders take part if they start their workers anew in every epoch
    (``persistent_workers=False``) and leave their seeds alone (``worker_init_fn=dict(
    type='keep_worker_seeds')``): PyTorch derives these from the generator that this hook seeds
    before the epoch. Without workers the hook alone is enough.
    """

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed what the epoch's data loader draws."""
        seed_all(runner.seed, _EPOCH, get_rank(), runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed what the model draws."""
        seed_all(runner.seed, _TRAIN, get_rank(), runner.iter)

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the allocation of tokens: the same in every validation."""
        seed_all(runner.seed, _VAL, get_rank(), batch_idx)

    def before_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the allocation of tokens."""
        seed_all(runner.seed, _TEST, get_rank(), batch_idx)


@FUNCTIONS.register_module()
def keep_worker_seeds(worker_id: int) -> None:
    """Leave a data loader's worker with the seeds that PyTorch gave it.

    In its place MMEngine gives worker ``i`` the same seed in every epoch.
    """
