"""The registered ops on one back end, each called as the reference is."""

from __future__ import annotations

import math

from torch import Tensor

from mmseg_arta.ops.balanced_clusters import kernels as balanced_clusters
from mmseg_arta.ops.class_scores import kernels as class_scores
from mmseg_arta.ops.cluster_attention import kernels as cluster_attention
from mmseg_arta.ops.gather_patches import kernels as gather_patches
from mmseg_arta.ops.nearest_clusters import kernels as nearest_clusters
from mmseg_arta.ops.nearest_tokens import kernels as nearest_tokens
from mmseg_arta.ops.neighborhood_merge import kernels as neighborhood_merge
from mmseg_arta.ops.point_deform_attention import kernels as point_deform_attention
from mmseg_arta.structures import Neighborhood, TokenSet


class Kernels:
    """The ops on a back end: 'cpu', 'cuda', 'triton', or 'reference' for searches.

    Numbers are not converted.
    """

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
        return gather_patches.forward(*arguments, self.backend)

    def balanced_clusters(self, xy, batch, counts, canvas, cluster_size) -> tuple[Tensor, Tensor]:
        return balanced_clusters.forward(xy, batch, counts, *canvas, cluster_size, self.backend)

    def nearest_clusters(self, *arguments) -> Tensor:
        return nearest_clusters.forward(*arguments, self.backend)

    def nearest_tokens(self, at, counts, level: TokenSet, k) -> Tensor:
        centers = level.centers()
        return nearest_tokens.forward(at, centers, counts, level.lengths, k, self.backend)

    def mask_probabilities(self, *arguments) -> Tensor:
        return class_scores.forward(*arguments, self.backend)


cpu, cuda = Kernels('cpu'), Kernels('cuda')
#: The searches in plain PyTorch.
pytorch = Kernels('reference')
