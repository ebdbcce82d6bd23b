"""Heads."""

from .atm import ATMHead, ATMTokenClassifier, HaltingATMHead, ShrunkATMHead
from .boundary_score_head import BoundaryScoreHead
from .group_policy_head import GroupPolicyHead, group_targets
from .lr_head import LRHead
from .mask2former import SparseMask2FormerHead

__all__ = [
    'ATMHead',
    'ATMTokenClassifier',
    'BoundaryScoreHead',
    'GroupPolicyHead',
    'HaltingATMHead',
    'LRHead',
    'ShrunkATMHead',
    'SparseMask2FormerHead',
    'group_targets',
]
