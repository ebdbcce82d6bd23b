"""Mask2Former on tokens of mixed resolution."""

from .grid_pixel_decoder import GridPixelDecoder
from .head import SparseMask2FormerHead
from .pixel_decoder import PixelDecoderOutput
from .point_pixel_decoder import PointPixelDecoder
from .transformer_decoder import MaskedTransformerDecoder, QueryPredictions

__all__ = [
    'GridPixelDecoder',
    'MaskedTransformerDecoder',
    'PixelDecoderOutput',
    'PointPixelDecoder',
    'QueryPredictions',
    'SparseMask2FormerHead',
]
