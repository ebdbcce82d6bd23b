"""Hooks and helpers of training and testing."""

from .cpu_processes import CPUDistributedDataParallel
from .cuda_graph import CannotCapture, GraphedInference
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
    'CannotCapture',
    'CheckSettingsHook',
    'CheckWeightsHook',
    'GraphedInference',
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
