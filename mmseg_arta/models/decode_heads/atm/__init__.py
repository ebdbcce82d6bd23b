"""Attention-to-mask heads: SegViT, its Shrunk variant, and DToP's and STEP's."""

from .attention import AttentionToMask
from .base import ATMBase
from .decoder import ATMDecoder, ATMLayer
from .halting_head import HaltingATMHead
from .head import ATMHead
from .shrunk_head import ShrunkATMHead
from .token_classifier import ATMTokenClassifier

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
