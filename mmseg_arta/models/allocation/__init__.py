"""Boundary scores and allocation policies: who gets finer tokens."""

from . import policies
from .allocator import Allocation, TokenAllocator
from .bound import TokenBound
from .children import SubPatchEmbed, split_selected
from .policies import *  # noqa: F403
from .reconsider import allocate_reconsidering
from .scores import BoundaryScorePredictor
from .segments import segment_counts, segment_softmax, segment_top

__all__ = [
    'Allocation',
    'BoundaryScorePredictor',
    'SubPatchEmbed',
    'TokenAllocator',
    'TokenBound',
    'allocate_reconsidering',
    'segment_counts',
    'segment_softmax',
    'segment_top',
    'split_selected',
    *policies.__all__,
]
