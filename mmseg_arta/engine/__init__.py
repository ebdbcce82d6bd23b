"""Hooks and helpers of training and testing."""

from .group_policy_metric import GroupPolicyMetric
from .hooks import (
    AllocationProgressHook,
    IterationSeedHook,
    SafeCheckpointHook,
    SkipPretrainedHook,
    TokenPictureHook,
    TokenStatisticsHook,
)
from .param_groups import NormFreeDecayConstructor

__all__ = [
    'AllocationProgressHook',
    'GroupPolicyMetric',
    'IterationSeedHook',
    'NormFreeDecayConstructor',
    'SafeCheckpointHook',
    'SkipPretrainedHook',
    'TokenPictureHook',
    'TokenStatisticsHook',
]
