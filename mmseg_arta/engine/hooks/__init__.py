"""Hooks."""

from .token_pictures import TokenPictureHook
from .token_statistics import TokenStatisticsHook

__all__ = ['TokenPictureHook', 'TokenStatisticsHook']
