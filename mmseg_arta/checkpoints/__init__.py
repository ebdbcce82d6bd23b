"""From the layouts of published checkpoints to ours."""

from .arta import convert_arta, convert_arta_backbone
from .converters import CONVERTERS, CheckpointError
from .lrformer import convert_lr_head, convert_lrformer, convert_lrformer_backbone
from .mask2former import (
    convert_arta_segmentor,
    convert_mask2former_head,
    convert_pixel_decoder,
    convert_transformer_decoder,
)
from .rules import rename_keys

__all__ = [
    'CONVERTERS',
    'CheckpointError',
    'convert_arta',
    'convert_arta_backbone',
    'convert_arta_segmentor',
    'convert_lr_head',
    'convert_lrformer',
    'convert_lrformer_backbone',
    'convert_mask2former_head',
    'convert_pixel_decoder',
    'convert_transformer_decoder',
    'rename_keys',
]
