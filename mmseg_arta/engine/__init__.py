"""Hooks and helpers of training and testing."""

from .cpu_processes import CPUDistributedDataParallel
from .group_policy_metric import GroupPolicyMetric
from .hooks import (
    AllocationProgressHook,
    CheckSettingsHook,
    CheckWeightsHook,
    IterationSeedHook,
    NonFiniteLossHook,
    SafeCheckpointHook,
    SkipPretrainedHook,
    TokenPictureHook,
    TokenStatisticsHook,
)
from .param_groups import LayerDecayConstructor, NormFreeDecayConstructor

__all__ = [
    'AllocationProgressHook',
    'CPUDistributedDataParallel',
    'CheckSettingsHook',
    'CheckWeightsHook',
    'GroupPolicyMetric',
    'IterationSeedHook',
    'LayerDecayConstructor',
    'NonFiniteLossHook',
    'NormFreeDecayConstructor',
    'SafeCheckpointHook',
    'SkipPretrainedHook',
    'TokenPictureHook',
    'TokenStatisticsHook',
]
