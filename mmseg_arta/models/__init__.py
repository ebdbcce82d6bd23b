"""Models, registered in mmseg's registry."""

from .allocation import BatchRatioAllocation, ThresholdAllocation
from .backbones import ARTA
from .decode_heads import BoundaryScoreHead, SparseMask2FormerHead
from .necks import TokensToMaps

__all__ = [
    'ARTA',
    'BatchRatioAllocation',
    'BoundaryScoreHead',
    'SparseMask2FormerHead',
    'ThresholdAllocation',
    'TokensToMaps',
]
