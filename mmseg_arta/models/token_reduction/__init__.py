"""Fewer tokens for a plain Vision Transformer: merging before it, halting within it."""

from .halting import (
    ConfidenceHalting,
    HaltingPoints,
    HaltingPolicy,
    confidences,
    join_masks,
    kept_lengths,
)
from .merging import MergingPolicy, ThresholdMerging, TopGroupMerging, embed_supertokens
from .tokens import ActiveTokens, ReducedTokens, StagePrediction, TokenLayout, true_rows

__all__ = [
    'ActiveTokens',
    'ConfidenceHalting',
    'HaltingPoints',
    'HaltingPolicy',
    'MergingPolicy',
    'ReducedTokens',
    'StagePrediction',
    'ThresholdMerging',
    'TokenLayout',
    'TopGroupMerging',
    'confidences',
    'embed_supertokens',
    'join_masks',
    'kept_lengths',
    'true_rows',
]
