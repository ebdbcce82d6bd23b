"""A Python function per op, whatever implements it. Importing an op's module registers the op."""

from .backend import available_backends, forced_backend, uses_reference
from .balanced_clusters import balanced_clusters
from .boundaries import at_patches, boundary_map, boundary_targets, counted_pixels, patch_share
from .class_scores import class_scores
from .cluster_attention import cluster_attention
from .gather_patches import gather_patches
from .nearest_clusters import nearest_clusters
from .nearest_tokens import inverse_distance_weights, nearest_tokens, nearest_tokens_of_cells
from .neighborhood_merge import neighborhood_merge
from .neighborhoods import build_neighborhood, published_neighborhood, published_sort_key
from .point_deform_attention import point_deform_attention
from .position_terms import position_terms
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
    'position_terms',
    'published_neighborhood',
    'published_sort_key',
    'uses_reference',
]
