"""Boundary scores and allocation policies: who gets finer tokens."""

from .allocator import TokenAllocator
from .children import SubPatchEmbed, split_selected
from .policies import AllocationPolicy, BatchRatioAllocation, Candidates, ThresholdAllocation
from .scores import BoundaryScorePredictor
from .segments import segment_counts, segment_softmax, segment_top

__all__ = [
    'AllocationPolicy',
    'BatchRatioAllocation',
    'BoundaryScorePredictor',
    'Candidates',
    'SubPatchEmbed',
    'ThresholdAllocation',
    'TokenAllocator',
    'segment_counts',
    'segment_softmax',
    'segment_top',
    'split_selected',
]
