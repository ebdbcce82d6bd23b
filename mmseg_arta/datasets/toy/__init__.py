"""Toy data sets: procedural street scenes in the layouts of the stock data set classes.

The modules here use NumPy and OpenCV only, no PyTorch.
"""

from .layouts import LAYOUTS, Cast, Layout
from .scenes import make_scene
from .writer import write_toy_dataset

__all__ = ['LAYOUTS', 'Cast', 'Layout', 'make_scene', 'write_toy_dataset']
