"""Pre-training on images with mmpretrain.

A config of mmpretrain gets the backbones, allocation policies and hooks of this package by one
line::

    custom_imports = dict(imports=['mmseg_arta.pretrain'])

and uses them by their names, for instance ``backbone=dict(type='ARTA', arch='tiny')``. They
differ from the segmentation backbones of the same names in what they return, and in having no
parameters that classification cannot train.

Importing this package raises an ImportError where mmpretrain or torchvision is missing. Nothing
else in ``mmseg_arta`` imports it.
"""

from ..engine.hooks import IterationSeedHook
from .registration import BACKBONES, register_backbones

__all__ = ['BACKBONES', 'IterationSeedHook', 'register_backbones']

register_backbones()
