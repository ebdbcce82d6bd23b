"""Models, registered in mmseg's registry."""

from . import backbones
from .allocation import policies
from .allocation.policies import *  # noqa: F403
from .backbones import *  # noqa: F403
from .data_preprocessors import MultiSizeCropPreProcessor
from .decode_heads import (
    ATMHead,
    ATMTokenClassifier,
    BoundaryScoreHead,
    GroupPolicyHead,
    HaltingATMHead,
    LRHead,
    ShrunkATMHead,
    SparseMask2FormerHead,
)
from .necks import TokensToMaps
from .segmentors import (
    BatchedSlideEncoderDecoder,
    GroupPolicySegmentor,
    OracleEncoderDecoder,
    ScoreTTAModel,
)
from .token_reduction import ConfidenceHalting, ThresholdMerging, TopGroupMerging

__all__ = [
    'ATMHead',
    'ATMTokenClassifier',
    'BatchedSlideEncoderDecoder',
    'BoundaryScoreHead',
    'ConfidenceHalting',
    'GroupPolicyHead',
    'GroupPolicySegmentor',
    'HaltingATMHead',
    'LRHead',
    'MultiSizeCropPreProcessor',
    'OracleEncoderDecoder',
    'ScoreTTAModel',
    'ShrunkATMHead',
    'SparseMask2FormerHead',
    'ThresholdMerging',
    'TokensToMaps',
    'TopGroupMerging',
    *backbones.__all__,
    *policies.__all__,
]
