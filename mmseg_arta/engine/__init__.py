"""Hooks and helpers of training and testing."""

from .hooks import TokenPictureHook, TokenStatisticsHook
from .param_groups import NormFreeDecayConstructor

__all__ = ['NormFreeDecayConstructor', 'TokenPictureHook', 'TokenStatisticsHook']
