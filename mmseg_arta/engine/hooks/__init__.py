"""Hooks."""

from .allocation_progress import AllocationProgressHook
from .token_pictures import TokenPictureHook
from .token_statistics import TokenStatisticsHook

__all__ = ['AllocationProgressHook', 'TokenPictureHook', 'TokenStatisticsHook']
