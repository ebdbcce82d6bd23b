"""Hooks and helpers of training and testing."""

from .hooks import TokenPictureHook, TokenStatisticsHook

__all__ = ['TokenPictureHook', 'TokenStatisticsHook']
