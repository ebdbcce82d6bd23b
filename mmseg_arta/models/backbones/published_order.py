"""The order in which the published code has its tokens, which decides ties there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...ops import published_neighborhood
from ...structures import FINEST_PATCH, AllocationRound, Neighborhood, TokenSet


class PublishedOrder:
    """Follows the published order of tokens through one forward pass.

    An allocation round sees the older levels, finest first, then the candidates that are
    kept and those that are split, each by ascending score, and then the new tokens, four
    after four in the order of their parents. A level keeps the order of the clusters that
    it was first put into; the coarsest keeps raster order. Nothing is shared between rounds:
    a refinement round sees the same tokens in another order, and clusters them anew.
    """

    def __init__(self) -> None:
        # Rows of every level in published order, all rows of an image together.
        self._rows: list[Tensor] = []
        self._newborn = False

    def allocate(self, record: AllocationRound, children: TokenSet) -> None:
        """Take note of a round: the order of its candidates and of their new tokens."""
        if not self._rows:
            self._rows.append(torch.arange(len(record.scores), device=record.scores.device))
        image = row_images(record.offsets, len(record.scores))
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
        self._newborn = True

    def neighborhood(
        self,
        levels: Sequence[TokenSet],
        canvas: tuple[int, int],
        cluster_size: int,
        num_neighbors: int,
    ) -> Neighborhood:
        """Cluster the tokens of a round; ``levels`` coarse to fine, rows in raster order."""
        if not self._rows:
            self._rows.append(torch.arange(len(levels[0]), device=levels[0].xy.device))
        sizes = [len(level) for level in levels]
        first = [sum(sizes[:index]) for index in range(len(sizes))]
        rows = [own + begin for own, begin in zip(self._rows, first, strict=False)]
        if self._newborn:
            older, newborn = rows[:-2], rows[-1]
            rows = [*older[::-1], self._candidates + first[-2], newborn]
        else:
            rows = rows[::-1]
        hood = published_neighborhood(
            torch.cat([level.xy for level in levels]),
            torch.cat([level.batch_index() for level in levels]),
            torch.stack([level.offsets.diff() for level in levels]).sum(0),
            tuple(sum(counts) for counts in zip(*(lv.lengths for lv in levels), strict=True)),
            (canvas[0] // FINEST_PATCH, canvas[1] // FINEST_PATCH),
            cluster_size,
            num_neighbors,
            torch.cat(rows),
        )
        if self._newborn:
            self._rows[-1] = hood.order[hood.order >= first[-1]] - first[-1]
            self._newborn = False
        return hood

    def arrange(self, levels: Sequence[TokenSet]) -> list[TokenSet]:
        """Levels, coarse to fine, with their rows in published order."""
        return [
            replace(level, feats=level.feats[rows], xy=level.xy[rows])
            for level, rows in zip(levels, self._rows, strict=True)
        ]


def row_images(offsets: Tensor, total: int) -> Tensor:
    """``(T,)`` int64 image of every row, of row offsets ``(B + 1,)``."""
    index = torch.arange(total, device=offsets.device)
    return torch.searchsorted(offsets[1:].long(), index, right=True)


def place_codes(xy: Tensor, image: Tensor) -> Tensor:
    """One int64 per place ``(T, 2)`` and image ``(T,)`` that sorts by image, y, x."""
    x, y = xy.long().unbind(1)
    return (image << 42) | (y << 21) | x
