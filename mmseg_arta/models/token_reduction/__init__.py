"""Fewer tokens for a plain Vision Transformer: merging before it, halting within it."""

from .halting import ConfidenceHalting, HaltingPolicy, confidences, join_masks, kept_lengths
from .layout import TokenLayout, true_rows
from .merging import MergingPolicy, ThresholdMerging, TopGroupMerging
from .output import ActiveTokens, ReducedTokens, StagePrediction

__all__ = [
    'ActiveTokens',
    'ConfidenceHalting',
    'HaltingPolicy',
    'MergingPolicy',
    'ReducedTokens',
    'StagePrediction',
    'ThresholdMerging',
    'TokenLayout',
    'TopGroupMerging',
    'confidences',
    'join_masks',
    'kept_lengths',
    'true_rows',
]
