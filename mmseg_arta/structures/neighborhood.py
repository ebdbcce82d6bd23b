"""Clusters of tokens and each token's nearest clusters, shared by all blocks of a round."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .contents import FARTHEST, one_after_the_other, within
from .host_sizes import host_sizes
from .host_values import largest
from .token_set import at_least_one

#: Most tokens of a cluster: what a thread needs for one grows with it.
MOST_CLUSTER_SIZE = 1 << 16


# Sizes of the tensors: T tokens, and any number.
_SHAPES: dict[str, tuple[int | str, ...]] = {
    'xy': ('T', 2),
    'order': ('T',),
    'inverse': ('T',),
    'start': ('*',),
    'neighbors': ('T', '*'),
    'batch': ('T',),
}


@dataclass(frozen=True)
class Neighborhood:
    """What cluster attention needs to know about where tokens are.

    Rows in *cluster order* are sorted by image, then by cluster, so a cluster is
    a contiguous tile of at most ``cluster_size`` rows.

    Attributes:
        order: ``(T,)`` int64; row ``j`` in cluster order is token ``order[j]``.
        inverse: ``(T,)`` int64; token ``i`` is row ``inverse[i]`` in cluster order.
        start: ``(K + 1,)`` int64; cluster ``c`` is rows ``start[c]:start[c + 1]``.
            ``K = T // cluster_size + B`` depends on no data; unused clusters at
            the end are empty.
        neighbors: ``(T, N)`` int64 nearest clusters of each row, nearest first;
            -1 where the image has fewer clusters.
        xy: ``(T, 2)`` int32 coordinates in cluster order, units of 4 px.
        batch: ``(T,)`` int64 image index in cluster order.
        lengths: tokens per image.
        cluster_size: rows of a full cluster.
    """

    order: Tensor
    inverse: Tensor
    start: Tensor
    neighbors: Tensor
    xy: Tensor
    batch: Tensor
    lengths: tuple[int, ...]
    cluster_size: int

    def __post_init__(self) -> None:
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return
        if not 1 <= self.cluster_size <= MOST_CLUSTER_SIZE:
            raise ValueError(
                f'Neighborhood: cluster_size must be from 1 to {MOST_CLUSTER_SIZE}, '
                f'found {self.cluster_size}'
            )
        if not self._fits():
            self._name_what_does_not_fit()

    def _fits(self) -> bool:
        """All that is checked of the tensors, in one go: there is one of these for every round."""
        xy, start, neighbors = self.xy, self.start, self.neighbors
        rows, device = self.batch.shape, xy.device
        return (
            len(rows) == 1
            and xy.shape == (*rows, 2)
            and self.order.shape == self.inverse.shape == rows
            and start.ndim == 1
            and start.shape[0] > 0
            and neighbors.ndim == 2
            and neighbors.shape[0] == rows[0]
            and all(
                tensor.device == device and tensor.dtype == torch.int64
                for tensor in (self.order, self.inverse, start, neighbors, self.batch)
            )
            and xy.dtype == torch.int32
        )

    def _name_what_does_not_fit(self) -> None:
        total = self.xy.shape[0] if self.xy.ndim else 0
        for name, shape in _SHAPES.items():
            tensor = getattr(self, name)
            found = tuple(tensor.shape)
            expected = tuple(total if size == 'T' else size for size in shape)
            if len(found) != len(expected) or any(
                size != other for size, other in zip(found, expected, strict=True) if other != '*'
            ):
                raise ValueError(
                    f'Neighborhood: {name} must be ({", ".join(map(str, expected))}) for '
                    f'xy {tuple(self.xy.shape)}, found {found}'
                )
            if tensor.device != self.xy.device:
                raise ValueError(
                    f'Neighborhood: {name} must be on {self.xy.device} as xy is, '
                    f'found {tensor.device}'
                )
            kind = torch.int32 if name == 'xy' else torch.int64
            if tensor.dtype != kind:
                raise ValueError(f'Neighborhood: {name} must be {kind}, found {tensor.dtype}')
        raise ValueError('Neighborhood: start must hold at least one row, found none')

    def to_clusters(self, rows: Tensor) -> Tensor:
        """Token order to cluster order, ``(T, ...)``."""
        return rows.index_select(0, self.order)

    def to_tokens(self, rows: Tensor) -> Tensor:
        """Cluster order back to token order, ``(T, ...)``."""
        return rows.index_select(0, self.inverse)

    def check_contents(self) -> None:
        """Clusters, nearest clusters and coordinates are what they may be; looks once.

        Raises:
            ValueError: if clusters are not consecutive rows that hold every token once.
            IndexError: if a nearest cluster does not exist, or a coordinate is beyond 2^30.
        """
        _ = self._checked

    @cached_property
    def _checked(self) -> bool:
        one_after_the_other(self.start, self.xy.shape[0], self.cluster_size)
        within(None, self.start.shape[0] - 2, neighbors=self.neighbors)
        within(-FARTHEST, FARTHEST, xy=self.xy)
        return True

    @property
    def members(self) -> tuple[Tensor, Tensor]:
        """Rows of every cluster ``(K, cluster_size)`` int64 and which of them exist (bool)."""
        # A compiler merges equal computations itself, and does not trace the lock of a cache.
        return self._list_members() if torch.compiler.is_compiling() else self._members

    @property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """Every (token, neighbour) pair: ``(T, L, 2)`` int32 neighbour minus token; which exist.

        ``L`` is clusters per token times cluster size; the second is ``(T, L)`` bool.
        """
        return self._list_pairs() if torch.compiler.is_compiling() else self._pairs

    @cached_property
    def _members(self) -> tuple[Tensor, Tensor]:
        return self._list_members()

    @cached_property
    def _pairs(self) -> tuple[Tensor, Tensor]:
        return self._list_pairs()

    def _list_members(self) -> tuple[Tensor, Tensor]:
        lanes = torch.arange(self.cluster_size, device=self.start.device)
        rows = self.start[:-1, None] + lanes
        valid = rows < self.start[1:, None]
        return rows.clamp_(max=largest(host_sizes(self.order)[0] - 1, 0)), valid

    def _list_pairs(self) -> tuple[Tensor, Tensor]:
        rows, valid = self.members
        nearest = self.neighbors.clamp(min=0)
        total, width = host_sizes(nearest)
        length = width * self.cluster_size
        delta = at_least_one(self.xy)[rows][nearest].view(total, length, 2) - self.xy[:, None]
        exists = (valid[nearest] & (self.neighbors >= 0)[..., None]).view(total, length)
        return delta, exists
