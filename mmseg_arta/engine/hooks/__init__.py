"""Hooks."""

from .allocation_progress import AllocationProgressHook
from .iteration_seed import IterationSeedHook
from .safe_checkpoint import SafeCheckpointHook
from .skip_pretrained import SkipPretrainedHook
from .token_pictures import TokenPictureHook
from .token_statistics import TokenStatisticsHook

__all__ = [
    'AllocationProgressHook',
    'IterationSeedHook',
    'SafeCheckpointHook',
    'SkipPretrainedHook',
    'TokenPictureHook',
    'TokenStatisticsHook',
]
