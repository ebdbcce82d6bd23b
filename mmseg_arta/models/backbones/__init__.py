"""Backbones."""

from .arta import ARTA

__all__ = ['ARTA']
