"""Blocks that several models share."""

from .cluster_block import ClusterAttention, ClusterBlock
from .clustering import (
    CLUSTERINGS,
    Clustering,
    OncePerLevels,
    PublishedClustering,
    TokenLayout,
)
from .convnext_block import ConvNeXtV2Block, GlobalResponseNorm
from .drop_path import DropPath
from .grid_maps import for_convolutions, to_maps, to_rows
from .layer_scale import LayerScale, layer_scale
from .learned_positions import fit_positions, resize_positions
from .low_resolution import (
    LowResolutionBlock,
    LowResolutionSelfAttention,
    MapLayerNorm,
    init_low_resolution_layers,
    pool_convs,
)
from .mlp import ConvMlp, Mlp
from .packed_attention import packed_self_attention, split_images
from .packed_vit_block import PackedViTBlock
from .patch_embed import ConvPatchEmbed, KernelPatchEmbed
from .point_conv import PointConv
from .point_deform import (
    PointDeformAttention,
    PointDeformBlock,
    TokenPlaces,
    init_deform_attention,
    token_places,
)
from .sine_position import sine_position
from .swin_block import SwinBlock, WindowAttention
from .vit_block import SelfAttention, ViTBlock

__all__ = [
    'CLUSTERINGS',
    'ClusterAttention',
    'ClusterBlock',
    'Clustering',
    'ConvMlp',
    'ConvNeXtV2Block',
    'ConvPatchEmbed',
    'DropPath',
    'GlobalResponseNorm',
    'KernelPatchEmbed',
    'LayerScale',
    'LowResolutionBlock',
    'LowResolutionSelfAttention',
    'MapLayerNorm',
    'Mlp',
    'OncePerLevels',
    'PackedViTBlock',
    'PointConv',
    'PointDeformAttention',
    'PointDeformBlock',
    'PublishedClustering',
    'SelfAttention',
    'SwinBlock',
    'TokenLayout',
    'TokenPlaces',
    'ViTBlock',
    'WindowAttention',
    'fit_positions',
    'for_convolutions',
    'init_deform_attention',
    'init_low_resolution_layers',
    'layer_scale',
    'packed_self_attention',
    'pool_convs',
    'resize_positions',
    'sine_position',
    'split_images',
    'to_maps',
    'to_rows',
    'token_places',
]
