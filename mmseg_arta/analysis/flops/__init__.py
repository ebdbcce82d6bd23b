"""Counting what models cost: operations and parameters, by component, in two conventions."""

from .count import count_operations
from .result import ComponentCount, MaskStep, OperationCount

__all__ = ['ComponentCount', 'MaskStep', 'OperationCount', 'count_operations']
