"""Data sets and data checks that stock MMSegmentation lacks."""

from .camvid import CamVidDataset
from .check_labels import CheckLabels
from .draws import NumberedInfiniteSampler, SeedByDraw

__all__ = ['CamVidDataset', 'CheckLabels', 'NumberedInfiniteSampler', 'SeedByDraw']
