"""Models made small: configs at reduced depth, and models without memory."""

from . import aff, arta, dups, lrformer, mask2former, segvit, stock  # noqa: F401  their rules enter the table
from .meta import build_on_meta
from .registry import REDUCERS, reduced_model, reduces

__all__ = ['REDUCERS', 'build_on_meta', 'reduced_model', 'reduces']
