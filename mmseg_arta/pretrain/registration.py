"""Backbones in mmpretrain's registry."""

from __future__ import annotations

from ..models.backbones import LRFormer
from .aff import AutoFocusFormer

#: What mmpretrain can train.
BACKBONES = (AutoFocusFormer, LRFormer)


def register_backbones() -> bool:
    """Enter :data:`BACKBONES` into mmpretrain's registry. Repeating it does nothing.

    Returns:
        whether mmpretrain is installed.
    """
    try:
        from mmpretrain.registry import MODELS
    except ModuleNotFoundError as error:
        # An mmpretrain that is there and broken says so.
        if error.name != 'mmpretrain':
            raise
        return False
    for backbone in BACKBONES:
        MODELS.register_module(module=backbone, force=True)
    return True
