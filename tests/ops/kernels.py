"""The registered ops on one back end, each called as the reference is."""

from __future__ import annotations

import math

from torch import Tensor

from mmseg_arta.ops.registered import (
    cluster_attention,
    masks,
    neighborhood_merge,
    patches,
    places,
    point_deform_attention,
)
from mmseg_arta.structures import Neighborhood, TokenSet


class Kernels:
    """The ops on a back end: 'cpu', 'cuda' or 'triton'; numbers are not converted."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

    def places_of(
        self, neighborhood: Neighborhood, blank_clamp: float | None
    ) -> tuple[Tensor | float | str, ...]:
        """The last arguments of the registered cluster attention."""
        clamp = math.inf if blank_clamp is None else blank_clamp
        hood = neighborhood
        return hood.xy, hood.start, hood.neighbors, hood.cluster_size, clamp, self.backend

    def cluster_attention(self, *arguments) -> Tensor:
        *tensors, hood, clamp = arguments
        return cluster_attention.forward(*tensors, *self.places_of(hood, clamp))[0]

    def point_deform_attention(self, *arguments) -> Tensor:
        return point_deform_attention.forward(*arguments, self.backend)

    def neighborhood_merge(self, *arguments) -> Tensor:
        return neighborhood_merge.forward(*arguments, self.backend)

    def gather_patches(self, *arguments) -> Tensor:
        return patches.forward(*arguments, self.backend)

    def balanced_clusters(self, xy, batch, counts, canvas, cluster_size) -> tuple[Tensor, Tensor]:
        return places.balanced_clusters(xy, batch, counts, *canvas, cluster_size, self.backend)

    def nearest_clusters(self, *arguments) -> Tensor:
        return places.nearest_clusters(*arguments, self.backend)

    def nearest_tokens(self, at, counts, level: TokenSet, k) -> Tensor:
        centers = level.centers()
        return places.nearest_tokens(at, centers, counts, level.lengths, k, self.backend)

    def mask_probabilities(self, *arguments) -> Tensor:
        return masks.forward(*arguments, self.backend)


cpu, cuda, triton = (Kernels(name) for name in ('cpu', 'cuda', 'triton'))
