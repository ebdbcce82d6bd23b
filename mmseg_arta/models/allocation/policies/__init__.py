"""Allocation policies: which candidate tokens get four finer ones."""

from .base import AllocationPolicy, Candidates
from .budget import BudgetAllocation
from .combined import ReconsideringAllocation, TrainTestAllocation, build_policy
from .costs import TokenCosts
from .oracle import OracleAllocation
from .ratio import BatchRatioAllocation, FixedRatioAllocation, FullAllocation
from .scheduled import RandomAllocation
from .threshold import ThresholdAllocation

__all__ = [
    'AllocationPolicy',
    'BatchRatioAllocation',
    'BudgetAllocation',
    'Candidates',
    'FixedRatioAllocation',
    'FullAllocation',
    'OracleAllocation',
    'RandomAllocation',
    'ReconsideringAllocation',
    'ThresholdAllocation',
    'TokenCosts',
    'TrainTestAllocation',
    'build_policy',
]
