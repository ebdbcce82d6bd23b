"""See :func:`mmseg_arta.ops.position_terms`."""

from ...ops import position_terms

__all__ = ['position_terms']
