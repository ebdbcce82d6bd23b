"""Blocks that several models share."""

from .cluster_block import ClusterAttention, ClusterBlock
from .drop_path import DropPath
from .layer_scale import LayerScale, layer_scale
from .mlp import ConvMlp, Mlp
from .patch_embed import ConvPatchEmbed, KernelPatchEmbed
from .sine_position import sine_position
from .vit_block import SelfAttention, ViTBlock

__all__ = [
    'ClusterAttention',
    'ClusterBlock',
    'ConvMlp',
    'ConvPatchEmbed',
    'DropPath',
    'KernelPatchEmbed',
    'LayerScale',
    'Mlp',
    'SelfAttention',
    'ViTBlock',
    'layer_scale',
    'sine_position',
]
