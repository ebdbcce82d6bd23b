"""Hooks and helpers of training and testing."""

from .cpu_inference import prepare_for_cpu_inference
from .group_policy_metric import GroupPolicyMetric
from .hooks import (
    AllocationProgressHook,
    SkipPretrainedHook,
    TokenPictureHook,
    TokenStatisticsHook,
)
from .param_groups import NormFreeDecayConstructor

__all__ = [
    'AllocationProgressHook',
    'GroupPolicyMetric',
    'NormFreeDecayConstructor',
    'SkipPretrainedHook',
    'TokenPictureHook',
    'TokenStatisticsHook',
    'prepare_for_cpu_inference',
]
