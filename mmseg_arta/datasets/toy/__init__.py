"""Toy data sets in the layouts of the stock data set classes.

Procedural street scenes for segmentation, pictures of one object each for classification.

The modules here use NumPy and OpenCV only, no PyTorch.
"""

from .layouts import LAYOUTS, Cast, Layout
from .pictures import IMAGE_LAYOUTS, ImageLayout, make_picture
from .scenes import make_scene
from .writer import write_toy_dataset

__all__ = [
    'IMAGE_LAYOUTS',
    'LAYOUTS',
    'Cast',
    'ImageLayout',
    'Layout',
    'make_picture',
    'make_scene',
    'write_toy_dataset',
]
