"""Segmentors for what the stock ones cannot do."""

from .batched_slide import BatchedSlideEncoderDecoder
from .group_policy import GroupPolicySegmentor
from .oracle_encoder_decoder import OracleEncoderDecoder
from .score_tta import ScoreTTAModel

__all__ = [
    'BatchedSlideEncoderDecoder',
    'GroupPolicySegmentor',
    'OracleEncoderDecoder',
    'ScoreTTAModel',
]
