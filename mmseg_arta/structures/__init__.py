"""The data that flows between backbones, necks and heads."""

from .cost_marks import MASK_STEP, mask_step
from .host_sizes import host_sizes
from .host_values import largest, offsets_from_lengths
from .mixed_tokens import AllocationRound, MixedTokens, TokenMaps, tokens_of
from .nearest_tokens import NearestTokens
from .neighborhood import MOST_CLUSTER_SIZE, Neighborhood
from .token_set import (
    FINEST_PATCH,
    TokenSet,
    at_least_one,
    batch_index,
    full_grid,
)
from .without_autocast import without_autocast

__all__ = [
    'FINEST_PATCH',
    'MASK_STEP',
    'MOST_CLUSTER_SIZE',
    'AllocationRound',
    'MixedTokens',
    'NearestTokens',
    'Neighborhood',
    'TokenMaps',
    'TokenSet',
    'at_least_one',
    'batch_index',
    'full_grid',
    'host_sizes',
    'largest',
    'mask_step',
    'offsets_from_lengths',
    'tokens_of',
    'without_autocast',
]
