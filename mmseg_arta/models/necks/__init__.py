"""Necks."""

from .tokens_to_maps import TokensToMaps

__all__ = ['TokensToMaps']
