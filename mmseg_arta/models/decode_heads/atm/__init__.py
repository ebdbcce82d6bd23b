"""Attention-to-mask heads: SegViT, its Shrunk variant, and DToP's and STEP's."""

from .base import ATMBase
from .decoder import ATMDecoder, ATMLayer, AttentionToMask
from .heads import ATMHead, ATMTokenClassifier, HaltingATMHead, ShrunkATMHead

__all__ = [
    'ATMBase',
    'ATMDecoder',
    'ATMHead',
    'ATMLayer',
    'ATMTokenClassifier',
    'AttentionToMask',
    'HaltingATMHead',
    'ShrunkATMHead',
]
