"""Hooks."""

from .allocation_progress import AllocationProgressHook
from .skip_pretrained import SkipPretrainedHook
from .token_pictures import TokenPictureHook
from .token_statistics import TokenStatisticsHook

__all__ = [
    'AllocationProgressHook',
    'SkipPretrainedHook',
    'TokenPictureHook',
    'TokenStatisticsHook',
]
