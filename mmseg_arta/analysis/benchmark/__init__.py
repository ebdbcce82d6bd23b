"""Comparing models: speed, memory and operations, measured the way the papers did."""

from .protocols import PROTOCOLS, Result, Row, flops, inference, train
from .subjects import Conditions, Model, read_models

__all__ = [
    'PROTOCOLS',
    'Conditions',
    'Model',
    'Result',
    'Row',
    'flops',
    'inference',
    'read_models',
    'train',
]
