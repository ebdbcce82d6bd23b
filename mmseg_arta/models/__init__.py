"""Models, registered in mmseg's registry."""

from .allocation import policies
from .allocation.policies import *  # noqa: F403
from .backbones import (
    ARTA,
    DUPS,
    AFFSwin,
    AutoFocusFormer,
    EfficientNetLite0,
    GroupPolicyNet,
    LRFormer,
    StepViT,
)
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
    'ARTA',
    'DUPS',
    'AFFSwin',
    'ATMHead',
    'ATMTokenClassifier',
    'AutoFocusFormer',
    'BatchedSlideEncoderDecoder',
    'BoundaryScoreHead',
    'ConfidenceHalting',
    'EfficientNetLite0',
    'GroupPolicyHead',
    'GroupPolicyNet',
    'GroupPolicySegmentor',
    'HaltingATMHead',
    'LRFormer',
    'LRHead',
    'OracleEncoderDecoder',
    'ScoreTTAModel',
    'ShrunkATMHead',
    'SparseMask2FormerHead',
    'StepViT',
    'ThresholdMerging',
    'TokensToMaps',
    'TopGroupMerging',
    *policies.__all__,
]
