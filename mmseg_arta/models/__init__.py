"""Models, registered in mmseg's registry."""

from .allocation import (
    BatchRatioAllocation,
    BudgetAllocation,
    FixedRatioAllocation,
    FullAllocation,
    OracleAllocation,
    RandomAllocation,
    ReconsideringAllocation,
    ThresholdAllocation,
    TrainTestAllocation,
)
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
    'BatchRatioAllocation',
    'BatchedSlideEncoderDecoder',
    'BoundaryScoreHead',
    'BudgetAllocation',
    'ConfidenceHalting',
    'EfficientNetLite0',
    'FixedRatioAllocation',
    'FullAllocation',
    'GroupPolicyHead',
    'GroupPolicyNet',
    'GroupPolicySegmentor',
    'HaltingATMHead',
    'LRFormer',
    'LRHead',
    'OracleAllocation',
    'OracleEncoderDecoder',
    'RandomAllocation',
    'ReconsideringAllocation',
    'ScoreTTAModel',
    'ShrunkATMHead',
    'SparseMask2FormerHead',
    'StepViT',
    'ThresholdAllocation',
    'ThresholdMerging',
    'TokensToMaps',
    'TopGroupMerging',
    'TrainTestAllocation',
]
