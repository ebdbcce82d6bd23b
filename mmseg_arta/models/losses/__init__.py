"""Losses of mask classification. That of boundary scores is ``BoundaryScoreHead`` itself."""

from .atm_loss import ATMLoss
from .class_masks import ClassMasks
from .set_criterion import HungarianMatcher, Matches, SetCriterion

__all__ = ['ATMLoss', 'ClassMasks', 'HungarianMatcher', 'Matches', 'SetCriterion']
