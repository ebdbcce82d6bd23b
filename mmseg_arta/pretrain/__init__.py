"""Pre-training on images with mmpretrain.

A config of mmpretrain gets the backbones of this package by one line::

    custom_imports = dict(imports=['mmseg_arta.pretrain'])

and uses them by their names, for instance ``backbone=dict(type='LRFormer', arch='small',
pooled_size=7, out_indices=(3,))``. Without mmpretrain importing this package does nothing.
"""

from .registration import BACKBONES, register_backbones

__all__ = ['BACKBONES', 'register_backbones']

register_backbones()
