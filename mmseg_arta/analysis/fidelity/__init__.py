"""Proof of faithfulness: parameters and operations of every variant beside published figures.

A family of models is a module here with a ``FAMILY``, named below.
"""

from . import aff, arta, dups, lrformer, segvit, swin
from .rows import Family, Figures, Row

#: Chapters of the report, in its order.
FAMILIES: dict[str, Family] = {
    'arta': arta.FAMILY,
    'dups': dups.FAMILY,
    'aff': aff.FAMILY,
    'swin': swin.FAMILY,
    'lrformer': lrformer.FAMILY,
    'segvit': segvit.FAMILY,
}

__all__ = ['FAMILIES', 'Family', 'Figures', 'Row']
