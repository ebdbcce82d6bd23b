"""The kernels' one door: a Python function per op, whatever implements it."""

from .backend import available_backends, forced_backend, uses_reference
from .boundaries import at_patches, boundary_map, boundary_targets, counted_pixels, patch_share
from .class_scores import class_scores
from .cluster_attention import cluster_attention
from .clusters import balanced_clusters, build_neighborhood, nearest_clusters
from .nearest_tokens import inverse_distance_weights, nearest_tokens, nearest_tokens_of_cells
from .neighborhood_merge import neighborhood_merge
from .patches import gather_patches
from .point_deform_attention import point_deform_attention
from .token_maps import finest_token_map

__all__ = [
    'at_patches',
    'available_backends',
    'balanced_clusters',
    'boundary_map',
    'boundary_targets',
    'build_neighborhood',
    'class_scores',
    'cluster_attention',
    'counted_pixels',
    'finest_token_map',
    'forced_backend',
    'gather_patches',
    'inverse_distance_weights',
    'nearest_clusters',
    'nearest_tokens',
    'nearest_tokens_of_cells',
    'neighborhood_merge',
    'patch_share',
    'point_deform_attention',
    'uses_reference',
]
