"""Blocks that several models share."""

from .basic import (
    ConvMlp,
    DropPath,
    LayerScale,
    Mlp,
    for_convolutions,
    layer_scale,
    to_maps,
    to_rows,
    wide_linear,
)
from .cluster_block import ClusterAttention, ClusterBlock
from .clustering import (
    CLUSTERINGS,
    Clustering,
    EncoderLayout,
    OncePerLevels,
    PublishedClustering,
)
from .convnext_block import ConvNeXtV2Block, GlobalResponseNorm
from .deform_attention import DeformAttention, init_deform_attention
from .frozen_norm import FrozenBatchNorm, freeze
from .global_attention import (
    GlobalBlock,
    SelfAttention,
    ViTBlock,
    packed_self_attention,
    split_images,
)
from .low_resolution import (
    LowResolutionBlock,
    LowResolutionSelfAttention,
    MapLayerNorm,
    PooledSize,
    check_pooled_size,
    init_low_resolution_layers,
    pool_convs,
)
from .map_cells import share_extent
from .packed_vit_block import PackedViTBlock
from .patch_embed import ConvPatchEmbed, KernelPatchEmbed
from .point_conv import PointConv
from .point_deform import (
    PointDeformAttention,
    PointDeformBlock,
    TokenPlaces,
    token_places,
)
from .positions import (
    fit_positions,
    remember_grid,
    resize_positions,
    sine_position,
)
from .swin_block import SwinBlock, WindowAttention

__all__ = [
    'CLUSTERINGS',
    'ClusterAttention',
    'ClusterBlock',
    'Clustering',
    'ConvMlp',
    'ConvNeXtV2Block',
    'ConvPatchEmbed',
    'DeformAttention',
    'DropPath',
    'EncoderLayout',
    'FrozenBatchNorm',
    'GlobalBlock',
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
    'PooledSize',
    'PublishedClustering',
    'SelfAttention',
    'SwinBlock',
    'TokenPlaces',
    'ViTBlock',
    'WindowAttention',
    'check_pooled_size',
    'fit_positions',
    'for_convolutions',
    'freeze',
    'init_deform_attention',
    'init_low_resolution_layers',
    'layer_scale',
    'packed_self_attention',
    'pool_convs',
    'remember_grid',
    'resize_positions',
    'share_extent',
    'sine_position',
    'split_images',
    'to_maps',
    'to_rows',
    'token_places',
    'wide_linear',
]
