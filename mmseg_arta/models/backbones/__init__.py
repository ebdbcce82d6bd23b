"""Backbones."""

from .aff import AutoFocusFormer
from .aff_swin import AFFSwin
from .arta import ARTA
from .dups import DUPS
from .efficientnet_lite import EfficientNetLite0
from .lrformer import LRFormer
from .policy_net import GroupPolicyNet
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
