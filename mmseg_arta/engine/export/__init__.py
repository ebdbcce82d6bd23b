"""Segmentors as files that run without this package, for images of one size."""

from .describe import describe
from .formats import FORMATS, load_exported
from .images import ExportError, ImageToScores
from .obstacles import fix_allocation, obstacle
from .run import Exported, export_segmentor

__all__ = [
    'FORMATS',
    'ExportError',
    'Exported',
    'ImageToScores',
    'describe',
    'export_segmentor',
    'fix_allocation',
    'load_exported',
    'obstacle',
]
