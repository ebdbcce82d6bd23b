"""Nearest tokens by looking around a place, in plain PyTorch; exact.

First at the cells around it; what they do not decide is searched row by row: of a row of cells
only the ``k`` tokens to either side of the place can be among the nearest, so a place in a large
empty area looks at some tokens of every row and not at every cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...structures import TokenSet
from .bucket_search import best
from .clusters import image_index

# Cells to either side of a place that are looked at, one after the other.
_REACHES = (1, 3)

# Then rows of cells above and below.
_BANDS = (7, 31)

# Pairs of places and cells or tokens at a time; they should stay in the processor's cache.
_PAIRS_PER_CHUNK = 1 << 18


@dataclass(frozen=True)
class _Lattice:
    """A level's tokens by the cell they are in.

    Attributes:
        table: ``(B, rows, columns)`` int64 row of the token in every cell, -1 for none.
        by_cell: ``(T,)`` int64 rows of the tokens, in raster order of their cells.
        before: ``(cells + 1,)`` int64 how many tokens lie in earlier cells.
        members: ``(B, N)`` int64 rows of the tokens of every image, -1 for none.
        centers: ``(T, 2)`` float64.
        unit: side of a cell.
    """

    table: Tensor
    by_cell: Tensor
    before: Tensor
    members: Tensor
    centers: Tensor
    unit: int

    @classmethod
    def of(cls, level: TokenSet) -> _Lattice:
        # Points lie on the 4 px grid, whatever their patch size.
        unit = level.unit if level.kind == 'patch' else 1
        rows, cols = (side * level.unit // unit for side in level.grid)
        table = level.xy.new_full((level.batch_size * rows * cols,), -1, dtype=torch.int64)
        x, y = (level.xy.long() // unit).unbind(1)
        code = (level.batch_index() * rows + y) * cols + x
        table[code] = torch.arange(len(level), device=table.device)
        before = torch.nn.functional.pad((table >= 0).cumsum(0), (1, 0))
        lanes = torch.arange(max(level.lengths, default=0), device=x.device)
        members = level.offsets[:-1, None] + lanes
        members.masked_fill_(members >= level.offsets[1:, None], -1)
        return cls(
            table.view(level.batch_size, rows, cols),
            code.argsort(),
            before,
            members,
            level.centers().to(torch.float64),
            unit,
        )

    @property
    def first(self) -> float:
        """Centre of the first cell, along x and y."""
        return (self.unit - 1) / 2


def nearest_tokens(
    places: Tensor, place_lengths: tuple[int, ...], level: TokenSet, k: int
) -> Tensor:
    """Rows ``(P, k)``, see :func:`mmseg_arta.ops.nearest_tokens`."""
    places = places.detach().to(torch.float64)
    nearest = torch.full((places.shape[0], k), -1, dtype=torch.int64, device=places.device)
    image = image_index(place_lengths, places.device)
    lattice = _Lattice.of(level)
    rows = lattice.table.shape[1]

    left = torch.arange(len(places), device=places.device)
    steps = [(_window, reach, (2 * reach + 1) ** 2) for reach in _REACHES]
    steps += [(_band, reach, (2 * reach + 1) * 2 * k) for reach in _BANDS if reach < rows]
    steps += [(_band, None, rows * 2 * k)]
    # They must look at fewer than all tokens.
    longest = lattice.members.shape[1]
    steps = [step for step in steps if step[2] < longest] + [(_whole_image, None, longest)]
    for search, reach, candidates in steps:
        if len(left) == 0 or candidates == 0:
            break
        decided = []
        for some in left.split(max(_PAIRS_PER_CHUNK // candidates, 1)):
            found, sure = search(places[some], image[some], lattice, reach, k)
            nearest[some] = torch.where(sure[:, None], found, -1)
            decided.append(sure)
        left = left[~torch.cat(decided)]
    return nearest


def _window(
    places: Tensor, image: Tensor, lattice: _Lattice, reach: int, k: int
) -> tuple[Tensor, Tensor]:
    """The nearest in a window ``(P, k)``, and whether no token beyond it can be as near."""
    _, rows, cols = lattice.table.shape
    middle = ((places - lattice.first) / lattice.unit).round().long()
    step = torch.arange(-reach, reach + 1, device=places.device)
    dy, dx = torch.meshgrid(step, step, indexing='ij')
    x, y = middle[:, :1] + dx.flatten(), middle[:, 1:] + dy.flatten()
    inside = (x >= 0) & (x < cols) & (y >= 0) & (y < rows)
    cell = (image[:, None] * rows + y.clamp(0, rows - 1)) * cols + x.clamp(0, cols - 1)
    found = lattice.table.flatten()[cell].masked_fill_(~inside, -1)
    nearest, farthest = best(found, places, lattice.centers, k)
    # The place is at most half a cell from the window's middle.
    return nearest, farthest < ((reach + 0.5) * lattice.unit) ** 2


def _band(
    places: Tensor, image: Tensor, lattice: _Lattice, reach: int | None, k: int
) -> tuple[Tensor, Tensor]:
    """As :func:`_window`, among the rows of cells around a place, or all rows if None."""
    _, rows, cols = lattice.table.shape
    column = ((places[:, :1] - lattice.first) / lattice.unit).ceil().long().clamp(0, cols)
    if reach is None:
        y = torch.arange(rows, device=places.device).expand(len(places), -1)
    else:
        middle = ((places[:, 1:] - lattice.first) / lattice.unit).round().long()
        y = middle + torch.arange(-reach, reach + 1, device=places.device)
    begin = (image[:, None] * rows + y.clamp(0, rows - 1)) * cols
    low, high = lattice.before[begin], lattice.before[begin + cols]
    # Tokens from here on have their centre at the place's x or further right.
    here = lattice.before[begin + column]
    near = here[..., None] + torch.arange(-k, k, device=places.device)
    inside = (near >= low[..., None]) & (near < high[..., None])
    inside &= ((y >= 0) & (y < rows))[..., None]
    near = near.clamp_(0, max(len(lattice.by_cell) - 1, 0))
    found = lattice.by_cell[near].masked_fill_(~inside, -1).flatten(1)
    nearest, farthest = best(found, places, lattice.centers, k)
    if reach is None:
        return nearest, torch.ones_like(farthest, dtype=torch.bool)
    return nearest, farthest < ((reach + 0.5) * lattice.unit) ** 2


def _whole_image(
    places: Tensor, image: Tensor, lattice: _Lattice, reach: int | None, k: int
) -> tuple[Tensor, Tensor]:
    """As :func:`_window`, among all tokens of the image."""
    nearest, farthest = best(lattice.members[image], places, lattice.centers, k)
    return nearest, torch.ones_like(farthest, dtype=torch.bool)
