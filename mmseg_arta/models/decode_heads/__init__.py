"""Heads."""

from .boundary_score_head import BoundaryScoreHead
from .mask2former import SparseMask2FormerHead

__all__ = ['BoundaryScoreHead', 'SparseMask2FormerHead']
