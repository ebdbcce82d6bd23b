"""The nearest of scattered points, by buckets around a place that grow until they decide; exact.

The search of nearest clusters and nearest tokens that runs in plain PyTorch, in eager mode and as
one call inside of compiled graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..structures import batch_index, offsets_from_lengths

# Side of the first buckets; the next ones have twice the side, and so on.
_FIRST_SIDE = 4

#: Pairs of places and points at a time; they should stay in the processor's cache.
PAIRS_PER_CHUNK = 1 << 18


@dataclass(frozen=True)
class _Buckets:
    """Points by the bucket they are in.

    Attributes:
        codes: ``(N,)`` int64 bucket of every point, ascending; by image, row, column.
        by_code: ``(N,)`` int64 points in the order of their codes.
        corner: ``(2,)`` float64 where the first bucket begins.
        grid: ``(rows, columns)`` of buckets of an image.
        side: of a bucket.
    """

    codes: Tensor
    by_code: Tensor
    corner: Tensor
    grid: tuple[int, int]
    side: int

    @classmethod
    def of(
        cls, points: Tensor, image: Tensor, corner: Tensor, extent: tuple[int, int], side: int
    ) -> _Buckets:
        rows, cols = extent[1] // side + 1, extent[0] // side + 1
        col, row = ((points - corner) / side).floor().long().unbind(1)
        codes, by_code = torch.sort((image * rows + row) * cols + col)
        return cls(codes, by_code, corner, (rows, cols), side)

    def around(self, places: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The 3x3 buckets around places.

        Returns:
            first and last (exclusive) position in ``by_code`` of their three rows, ``(P, 3)``
            int64 each, and how far points beyond them are at least, ``(P,)``.
        """
        rows, cols = self.grid
        inner = places - self.corner
        cell = (inner / self.side).floor().long()
        y = cell[:, 1:] + torch.arange(-1, 2, device=places.device)
        base = (image[:, None] * rows + y.clamp(0, rows - 1)) * cols
        low = torch.searchsorted(self.codes, base + (cell[:, :1] - 1).clamp(min=0))
        high = torch.searchsorted(self.codes, base + (cell[:, :1] + 2).clamp(max=cols))
        high = torch.where((y >= 0) & (y < rows), high, low)

        sides = torch.tensor((cols, rows), device=places.device)
        before = (inner - (cell - 1) * self.side).masked_fill(cell <= 1, torch.inf)
        after = ((cell + 2) * self.side - inner).masked_fill(cell + 2 >= sides, torch.inf)
        return low, high, torch.minimum(before, after).amin(1)


def image_index(counts: Sequence[int], device: torch.device) -> Tensor:
    """Image ``(sum(counts),)`` int64 of every row, of rows per image."""
    return batch_index(offsets_from_lengths(tuple(counts), device), sum(counts))


def nearest_points(
    points: Tensor, point_image: Tensor, places: Tensor, place_image: Tensor, k: int
) -> Tensor:
    """The ``k`` points nearest to each place, among those of its image.

    By Euclidean distance; among equal distances the point with the lowest row comes first.

    Args:
        points: ``(N, 2)`` float64.
        point_image: ``(N,)`` int64 image of every point.
        places: ``(P, 2)`` float64.
        place_image: ``(P,)`` int64 image of every place.
        k: how many to find.

    Returns:
        ``(P, k)`` int64 rows, nearest first; -1 where an image has fewer than ``k`` points.
    """
    nearest = torch.full((len(places), k), -1, dtype=torch.int64, device=places.device)
    if not len(points) or not len(places):
        return nearest
    both = torch.cat((points, places))
    corner = both.amin(0).floor()
    width, height = (both.amax(0) - corner).long().tolist()

    left, side = torch.arange(len(places), device=places.device), _FIRST_SIDE
    while len(left):
        buckets = _Buckets.of(points, point_image, corner, (width, height), side)
        low, high, gap = buckets.around(places[left], place_image[left])
        count = high - low
        # Nothing is beyond the last buckets; else k points must be in sight.
        hopeful = (gap.isinf() | (count.sum(1) >= k)).nonzero()[:, 0]
        sure = torch.zeros_like(gap, dtype=torch.bool)
        # Places with as many points in sight, up to a factor of two, together.
        power = torch.ceil(count[hopeful].amax(1).clamp(min=1).double().log2()).long()
        hopeful, sizes = hopeful[power.argsort()], torch.bincount(power).tolist()
        for exponent, group in enumerate(hopeful.split(sizes)):
            lanes = torch.arange(1 << exponent, device=places.device)
            for some in group.split(max(PAIRS_PER_CHUNK // (3 << exponent), 1)):
                index = low[some, :, None] + lanes
                index = index.masked_fill_(index >= high[some, :, None], -1).flatten(1)
                found = buckets.by_code[index.clamp(min=0)].masked_fill_(index < 0, -1)
                nearest[left[some]], farthest = best(found, places[left[some]], points, k)
                sure[some] = gap[some].isinf() | (farthest < gap[some] ** 2)
        left = left[~sure]
        side *= 2
    return nearest


def best(found: Tensor, places: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The nearest of some candidates.

    Args:
        found: ``(P, M)`` int64 rows of candidate points, -1 for none.
        places: ``(P, 2)`` float64.
        points: ``(N, 2)`` float64.
        k: how many to find.

    Returns:
        rows ``(P, k)``, nearest first, of equal distances the lowest, -1 where there are fewer;
        and the squared distance of the last of them ``(P,)``, infinite where there is none.
    """
    # argmin returns the first of equal values: so the lowest row.
    found = found.sort(1).values
    squared = (points[found.clamp(min=0)] - places[:, None]).square_().sum(-1)
    squared.masked_fill_(found < 0, torch.inf)
    nearest = []
    for _ in range(k):
        index = squared.argmin(1, keepdim=True)
        least = squared.gather(1, index)
        nearest.append(found.gather(1, index).masked_fill_(least.isinf(), -1))
        squared.scatter_(1, index, torch.inf)
    return torch.cat(nearest, 1), least[:, 0]
