"""Boundary scores and allocation policies: who gets finer tokens."""

from .allocator import TokenAllocator
from .children import SubPatchEmbed, split_selected
from .policies import (
    AllocationPolicy,
    BatchRatioAllocation,
    BudgetAllocation,
    Candidates,
    FixedRatioAllocation,
    FullAllocation,
    OracleAllocation,
    RandomAllocation,
    ReconsideringAllocation,
    ThresholdAllocation,
    TokenCosts,
    TrainTestAllocation,
    build_policy,
    policy_parts,
    reconsiders,
)
from .reconsider import Allocation, OpenTokens, reconsidering_round
from .scores import BoundaryScorePredictor
from .segments import segment_counts, segment_softmax, segment_top

__all__ = [
    'Allocation',
    'AllocationPolicy',
    'BatchRatioAllocation',
    'BoundaryScorePredictor',
    'BudgetAllocation',
    'Candidates',
    'FixedRatioAllocation',
    'FullAllocation',
    'OpenTokens',
    'OracleAllocation',
    'RandomAllocation',
    'ReconsideringAllocation',
    'SubPatchEmbed',
    'ThresholdAllocation',
    'TokenAllocator',
    'TokenCosts',
    'TrainTestAllocation',
    'build_policy',
    'policy_parts',
    'reconsidering_round',
    'reconsiders',
    'segment_counts',
    'segment_softmax',
    'segment_top',
    'split_selected',
]
