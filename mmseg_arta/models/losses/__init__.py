"""Losses."""

from .class_masks import ClassMasks
from .matcher import HungarianMatcher, Matches
from .set_criterion import SetCriterion

__all__ = ['ClassMasks', 'HungarianMatcher', 'Matches', 'SetCriterion']
