"""What a trained model that allocates tokens makes of larger and smaller budgets."""

from .curve import CHOICES, Point, ShareOfTokens, measure
from .report import draw, markdown, plain

__all__ = ['CHOICES', 'Point', 'ShareOfTokens', 'draw', 'markdown', 'measure', 'plain']
