"""Clusters and sampling places of the tokens of a forward pass, shared by its rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ...ops import build_neighborhood, published_neighborhood
from ...structures import FINEST_PATCH, AllocationRound, Neighborhood, TokenSet
from .point_deform import TokenPlaces, token_places

T = TypeVar('T')


class OncePerLevels(Generic[T]):
    """Something that depends on token places alone, computed once for every number of levels.

    A refinement round sees the levels that an allocation round saw before it, so the two share it.
    Token counts would make no key in a compiled graph, which does not know them.
    """

    def __init__(self, compute: Callable[[Sequence[TokenSet]], T]) -> None:
        self._compute = compute
        self._known: dict[int, T] = {}

    def __call__(self, levels: Sequence[TokenSet]) -> T:
        if len(levels) not in self._known:
            self._known[len(levels)] = self._compute(levels)
        return self._known[len(levels)]

    def forget(self) -> None:
        """Compute everything anew: tokens have joined a level."""
        self._known.clear()


class Clustering:
    """Clusters of the tokens of one forward pass; ties go to the earlier token in raster order.

    Args:
        canvas: ``(height, width)`` in pixels.
        cluster_size: tokens per cluster.
        num_neighbors: clusters that a token attends to.
    """

    def __init__(self, canvas: tuple[int, int], cluster_size: int, num_neighbors: int) -> None:
        self.grid = (canvas[0] // FINEST_PATCH, canvas[1] // FINEST_PATCH)
        self.cluster_size, self.num_neighbors = cluster_size, num_neighbors
        # By number of levels, as in OncePerLevels; one that held a method of this object would keep
        # itself and all clusters alive until Python looks for cycles.
        self._known: dict[int, Neighborhood] = {}

    def neighborhood(self, levels: Sequence[TokenSet]) -> Neighborhood:
        """Clusters of all tokens of ``levels``, coarse to fine, laid end to end."""
        if len(levels) not in self._known:
            self._known[len(levels)] = self._cluster(levels)
        return self._known[len(levels)]

    def forget(self) -> None:
        """Cluster anew from here on: tokens have joined a level."""
        self._known.clear()

    def allocated(self, record: AllocationRound, children: TokenSet) -> None:
        """Take note of an allocation round and its new tokens."""

    def arrange(self, levels: Sequence[TokenSet]) -> list[TokenSet]:
        """The encoder's output levels, coarse to fine, in the order of rows that they leave in."""
        return list(levels)

    def _cluster(self, levels: Sequence[TokenSet]) -> Neighborhood:
        return build_neighborhood(*laid_end_to_end(levels), *self._sizes())

    def _sizes(self) -> tuple[tuple[int, int], int, int]:
        return self.grid, self.cluster_size, self.num_neighbors


class PublishedClustering(Clustering):
    """Clusters as the published code makes them, which lets the order of its rows decide ties.

    Follows that order through one forward pass. An allocation round sees the older levels, finest
    first, then the candidates that are kept and those that are split, each by ascending score, and
    then the new tokens, four after four in the order of their parents. A level keeps the order of
    the clusters that it was first put into; the coarsest keeps raster order. Nothing is shared
    between rounds: a refinement round sees the same tokens in another order.
    """

    def __init__(self, canvas: tuple[int, int], cluster_size: int, num_neighbors: int) -> None:
        super().__init__(canvas, cluster_size, num_neighbors)
        # Rows of every level in published order, all rows of an image together.
        self._rows: list[Tensor] = []
        # Rows of the candidates of a round whose new tokens were not clustered yet.
        self._candidates: Tensor | None = None

    def neighborhood(self, levels: Sequence[TokenSet]) -> Neighborhood:
        if not self._rows:
            self._rows.append(torch.arange(len(levels[0]), device=levels[0].xy.device))
        sizes = [len(level) for level in levels]
        first = [sum(sizes[:index]) for index in range(len(sizes))]
        rows = [own + begin for own, begin in zip(self._rows, first, strict=False)]
        if self._candidates is None:
            rows = rows[::-1]
        else:
            older, children = rows[:-2], rows[-1]
            rows = [*older[::-1], self._candidates + first[-2], children]
        where = laid_end_to_end(levels)
        neighborhood = published_neighborhood(*where, *self._sizes(), torch.cat(rows))
        if self._candidates is not None:
            order = neighborhood.order
            self._rows[-1] = order[order >= first[-1]] - first[-1]
            self._candidates = None
        return neighborhood

    def allocated(self, record: AllocationRound, children: TokenSet) -> None:
        if not self._rows:
            self._rows.append(torch.arange(len(record.scores), device=record.scores.device))
        image = images_of_rows(record.offsets, len(record.scores))
        rows = self._rows[-1]
        for key in (record.scores.detach(), record.selected.long(), image):
            rows = rows[torch.sort(key[rows], stable=True).indices]
        self._candidates = rows

        parents = rows[record.selected[rows]]
        step = record.patch_size // 2 // FINEST_PATCH
        corner = record.xy.new_tensor(((0, 0), (1, 0), (0, 1), (1, 1))) * step
        places = (record.xy[parents, None] + corner).flatten(0, 1)
        wanted = place_codes(places, image[parents].repeat_interleave(4))
        present = torch.sort(place_codes(children.xy, children.batch_index()))
        self._rows.append(present.indices[torch.searchsorted(present.values, wanted)])

    def arrange(self, levels: Sequence[TokenSet]) -> list[TokenSet]:
        """Rows in published order."""
        return [
            replace(level, feats=level.feats[rows], xy=level.xy[rows])
            for level, rows in zip(levels, self._rows, strict=True)
        ]


#: By ``tie_order``: what decides between tokens with equal sort keys.
CLUSTERINGS: dict[str, type[Clustering]] = {
    'raster': Clustering,
    'published': PublishedClustering,
}


@dataclass(frozen=True)
class EncoderLayout:
    """What the rounds of a forward pass, of all kinds, need to know about token places.

    Attributes:
        clustering: for cluster attention.
        samples: for deformable attention.
    """

    clustering: Clustering
    samples: OncePerLevels[TokenPlaces]

    @classmethod
    def of(cls, clustering: Clustering, canvas: tuple[int, int]) -> EncoderLayout:
        """A layout with these clusters on a canvas ``(height, width)`` in pixels."""
        return cls(clustering, OncePerLevels(lambda levels: token_places(levels, canvas)))

    def forget(self) -> None:
        """Compute everything anew: tokens have joined a level."""
        self.clustering.forget()
        self.samples.forget()


def laid_end_to_end(
    levels: Sequence[TokenSet],
) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...]]:
    """Places ``(T, 2)`` and images ``(T,)`` of all tokens, and tokens per image.

    The counts come as a tensor ``(B,)`` and as numbers on the host.
    """
    return (
        torch.cat([level.xy for level in levels]),
        torch.cat([level.batch_index() for level in levels]),
        torch.stack([level.offsets.diff() for level in levels]).sum(0),
        tuple(sum(counts) for counts in zip(*(level.lengths for level in levels), strict=True)),
    )


def images_of_rows(offsets: Tensor, total: int) -> Tensor:
    """``(T,)`` int64 image of every row, of row offsets ``(B + 1,)``."""
    index = torch.arange(total, device=offsets.device)
    return torch.searchsorted(offsets[1:].long(), index, right=True)


def place_codes(xy: Tensor, image: Tensor) -> Tensor:
    """One int64 per place ``(T, 2)`` and image ``(T,)`` that sorts by image, y, x."""
    x, y = xy.long().unbind(1)
    return (image << 42) | (y << 21) | x
