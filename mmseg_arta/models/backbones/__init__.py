"""Backbones."""

from .aff import AutoFocusFormer
from .aff_swin import AFFSwin
from .arta import ARTA
from .dups import DUPS
from .lrformer import LRFormer
from .policy_net import EfficientNetLite0, GroupPolicyNet
from .step_vit import StepViT

__all__ = [
    'ARTA',
    'DUPS',
    'AFFSwin',
    'AutoFocusFormer',
    'EfficientNetLite0',
    'GroupPolicyNet',
    'LRFormer',
    'StepViT',
]
