"""From the layouts of published checkpoints to ours."""

from .arta import convert_arta_backbone
from .mask2former import (
    convert_arta_segmentor,
    convert_mask2former_head,
    convert_pixel_decoder,
    convert_transformer_decoder,
)
from .rules import rename_keys

__all__ = [
    'convert_arta_backbone',
    'convert_arta_segmentor',
    'convert_mask2former_head',
    'convert_pixel_decoder',
    'convert_transformer_decoder',
    'rename_keys',
]
