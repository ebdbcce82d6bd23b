"""Hooks."""

from .allocation_progress import AllocationProgressHook
from .check_settings import CheckSettingsHook
from .check_weights import CheckWeightsHook
from .iteration_seed import IterationSeedHook
from .non_finite_loss import NonFiniteLossHook
from .safe_checkpoint import SafeCheckpointHook
from .skip_pretrained import SkipPretrainedHook
from .token_pictures import TokenPictureHook
from .token_statistics import TokenStatisticsHook

__all__ = [
    'AllocationProgressHook',
    'CheckSettingsHook',
    'CheckWeightsHook',
    'IterationSeedHook',
    'NonFiniteLossHook',
    'SafeCheckpointHook',
    'SkipPretrainedHook',
    'TokenPictureHook',
    'TokenStatisticsHook',
]
