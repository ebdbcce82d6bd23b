"""Models, registered in mmseg's registry."""

from .allocation import BatchRatioAllocation, ThresholdAllocation
from .backbones import ARTA
from .decode_heads import BoundaryScoreHead, SparseMask2FormerHead
from .necks import TokensToMaps
from .segmentors import BatchedSlideEncoderDecoder, ScoreTTAModel

__all__ = [
    'ARTA',
    'BatchRatioAllocation',
    'BatchedSlideEncoderDecoder',
    'BoundaryScoreHead',
    'ScoreTTAModel',
    'SparseMask2FormerHead',
    'ThresholdAllocation',
    'TokensToMaps',
]
