"""Losses."""

from .atm_loss import ATMLoss
from .class_masks import ClassMasks
from .matcher import HungarianMatcher, Matches
from .set_criterion import SetCriterion

__all__ = ['ATMLoss', 'ClassMasks', 'HungarianMatcher', 'Matches', 'SetCriterion']
