"""Heads."""

from .boundary_score_head import BoundaryScoreHead

__all__ = ['BoundaryScoreHead']
