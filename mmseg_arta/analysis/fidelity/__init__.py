"""Proof of faithfulness: parameters and operations of every variant beside published figures.

A family of models is a module here with a ``FAMILY``, named below.
"""

from . import arta, dups, swin
from .rows import Family, Figures, Row

#: Chapters of the report, in its order.
FAMILIES: dict[str, Family] = {
    'arta': arta.FAMILY,
    'dups': dups.FAMILY,
    'swin': swin.FAMILY,
}

__all__ = ['FAMILIES', 'Family', 'Figures', 'Row']
