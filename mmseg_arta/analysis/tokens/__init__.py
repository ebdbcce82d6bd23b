"""What token reduction does to images: superpatches per size, halted tokens, cost per layer."""

from .layers import LayerCost, layer_costs
from .record import TokenUse, TokenWatch
from .run import analyze, set_thresholds
from .tables import Spread, halting_table, merging_table

__all__ = [
    'LayerCost',
    'Spread',
    'TokenUse',
    'TokenWatch',
    'analyze',
    'halting_table',
    'layer_costs',
    'merging_table',
    'set_thresholds',
]
