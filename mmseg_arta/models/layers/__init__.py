"""Blocks that several models share."""

from .aff_patch_embed import StridedPatchEmbed
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
from .fused_linear import in_sequence, linear_act, linear_add
from .grid_maps import for_convolutions, to_maps, to_rows
from .grid_prior import grid_prior
from .layer_scale import LayerScale, layer_scale
from .learned_positions import fit_positions, resize_positions
from .low_resolution_attention import LowResolutionSelfAttention, pool_convs
from .low_resolution_block import (
    LowResolutionBlock,
    MapLayerNorm,
    init_low_resolution_layers,
)
from .mlp import ConvMlp, Mlp
from .multi_head import multi_head_attention
from .packed_attention import packed_self_attention, split_images
from .packed_vit_block import PackedViTBlock
from .patch_embed import ConvPatchEmbed, KernelPatchEmbed
from .point_deform import (
    PointDeformAttention,
    PointDeformBlock,
    TokenPlaces,
    init_deform_attention,
    token_places,
)
from .row_blocks import by_rows
from .sine_position import sine_position
from .swin_block import SwinBlock, WindowAttention
from .token_merging import AdaptiveDownsample, GridDownsample, NeighborhoodMerging
from .vit_block import SelfAttention, ViTBlock

__all__ = [
    'CLUSTERINGS',
    'AdaptiveDownsample',
    'ClusterAttention',
    'ClusterBlock',
    'Clustering',
    'ConvMlp',
    'ConvNeXtV2Block',
    'ConvPatchEmbed',
    'DropPath',
    'GlobalResponseNorm',
    'GridDownsample',
    'KernelPatchEmbed',
    'LayerScale',
    'LowResolutionBlock',
    'LowResolutionSelfAttention',
    'MapLayerNorm',
    'Mlp',
    'NeighborhoodMerging',
    'OncePerLevels',
    'PackedViTBlock',
    'PointDeformAttention',
    'PointDeformBlock',
    'PublishedClustering',
    'SelfAttention',
    'StridedPatchEmbed',
    'SwinBlock',
    'TokenLayout',
    'TokenPlaces',
    'ViTBlock',
    'WindowAttention',
    'by_rows',
    'fit_positions',
    'for_convolutions',
    'grid_prior',
    'in_sequence',
    'init_deform_attention',
    'init_low_resolution_layers',
    'layer_scale',
    'linear_act',
    'linear_add',
    'multi_head_attention',
    'packed_self_attention',
    'pool_convs',
    'resize_positions',
    'sine_position',
    'split_images',
    'to_maps',
    'to_rows',
    'token_places',
]
