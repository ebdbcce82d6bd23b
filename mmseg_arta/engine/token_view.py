"""What a forward pass shows of one image: its tokens' cells, and the scores that made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.spatial import KDTree
from torch import Tensor

from ..models.token_reduction import ReducedTokens
from ..ops import finest_token_map
from ..structures import FINEST_PATCH, AllocationRound, MixedTokens, TokenSet

#: 'chosen': some places have tokens; 'mosaic': all have, patches of several sizes; 'points': the
#: same of points; 'halted': tokens of places without one are done.
CellKind = Literal['chosen', 'mosaic', 'points', 'halted']


@dataclass(frozen=True)
class TokenCells:
    """The part of an image that each of some tokens stands for.

    Attributes:
        title: with ``{count}`` and ``{total}`` in it.
        owner: ``(H, W)`` int32, the token of every pixel, -1 where there is none.
        sides: ``(N,)`` int32 side of every token's patch in pixels, of points the nominal one.
        total: tokens that there are in all, or could be.
        kind: see :data:`CellKind`.
    """

    title: str
    owner: np.ndarray
    sides: np.ndarray
    total: int
    kind: CellKind = 'chosen'

    @property
    def caption(self) -> str:
        """The title with its numbers."""
        count = self.total - len(self.sides) if self.kind == 'halted' else len(self.sides)
        return self.title.format(count=count, total=self.total)


@dataclass(frozen=True)
class ScoreMap:
    """Scores by place.

    Attributes:
        title: what they are.
        values: ``(H, W)`` float32, NaN where nothing was scored.
    """

    title: str
    values: np.ndarray


@dataclass(frozen=True)
class ChosenPatches:
    """Squares of an image that got finer tokens, or kept theirs, among all that could have.

    Attributes:
        name: of the round, stage or step.
        tokens: that they have, in words.
        patch_size: side of a square in pixels.
        chosen: ``(rows, columns)`` bool; those that show a part of the image.
    """

    name: str
    tokens: str
    patch_size: int
    chosen: np.ndarray


@dataclass(frozen=True)
class TokenView:
    """What there is to see of the tokens of one image.

    Attributes:
        rounds: tokens of every allocation round, AutoFocusFormer stage or halting point.
        scores: what they were chosen by.
        cells: tokens of all sizes at once, if they are patches.
    """

    rounds: tuple[TokenCells, ...] = ()
    scores: tuple[ScoreMap, ...] = ()
    cells: TokenCells | None = None


def view_of(tokens: MixedTokens | ReducedTokens, index: int = 0) -> TokenView:
    """What an image's tokens are: on the canvas, or on all patches of a plain transformer.

    Args:
        tokens: of a batch.
        index: image in it.
    """
    if isinstance(tokens, ReducedTokens):
        return _of_reduced(tokens, index)
    if tokens.levels[-1].kind == 'point':
        return _of_points(tokens, index)
    rounds = tuple(
        TokenCells(
            f'round {number}: {{count}} tokens of {level.patch_size} px',
            *_patch_cells(level, index, tokens.canvas),
            level.lengths[index],
        )
        for number, level in enumerate(tokens.levels[1:], 1)
    )
    scores = tuple(
        ScoreMap(f'scores of round {number}', score_map(record, index, tokens.canvas))
        for number, record in enumerate(tokens.rounds, 1)
    )
    return TokenView(rounds, scores, _mixed_cells(tokens, index))


def chosen_patches(tokens: MixedTokens | ReducedTokens, index: int = 0) -> list[ChosenPatches]:
    """Which squares of an image every round chose.

    Of ARTA and DUPS these are the patches whose tokens got finer ones; of AutoFocusFormer the
    places, of 4 px, of the tokens that a stage kept; of a plain transformer the patches that
    stayed single while others merged.
    """
    if isinstance(tokens, ReducedTokens):
        layout = tokens.layout
        if layout.owner is None:
            return []
        single = (layout.sizes == 1).index_select(0, layout.owner[index].flatten())
        rows, columns = layout.cells
        grid = _numpy(single).reshape(layout.grid)[:rows, :columns]
        return [ChosenPatches('single', 'single patches', layout.patch_size, grid)]
    points = tokens.levels[-1].kind == 'point'
    pairs = zip(tokens.levels, tokens.levels[1:], strict=False)
    found = []
    for number, (coarse, fine) in enumerate(pairs, 1):
        level, side = (coarse, FINEST_PATCH) if points else (fine, coarse.patch_size)
        rows, columns = (-(-length // side) for length in tokens.image_size)
        places = _places(level, index) * FINEST_PATCH // side
        # Tokens on padding belong to no patch of the image.
        places = places[(places < (columns, rows)).all(1)]
        grid = np.zeros((rows, columns), dtype=bool)
        grid[places[:, 1], places[:, 0]] = True
        name = f'stage {_stage(level)}' if points else f'round {number}'
        words = f'tokens of {name}' if points else f'{level.patch_size} px tokens'
        found.append(ChosenPatches(name, words, side, grid))
    return found[::-1] if points else found


def score_map(record: AllocationRound, index: int, canvas: tuple[int, int]) -> np.ndarray:
    """Scores of a round's candidates in their patches, ``(H, W)`` float32 on the canvas."""
    begin, end = (int(record.offsets[index + i]) for i in range(2))
    values = np.full(record.grid, np.nan, dtype=np.float32)
    xy = _numpy(record.xy[begin:end]) * FINEST_PATCH // record.patch_size
    values[xy[:, 1], xy[:, 0]] = _numpy(record.scores[begin:end].float())
    return _to_pixels(values, record.patch_size)[: canvas[0], : canvas[1]]


def point_cells(xy: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """For every pixel the nearest of some places: ``(H, W)`` int32 row numbers.

    Args:
        xy: ``(N, 2)`` places in units of 4 px, at least one.
        size: height and width in pixels.
    """
    rows, columns = np.mgrid[: size[0], : size[1]]
    pixels = np.stack((columns, rows), -1).reshape(-1, 2)
    nearest = KDTree(xy * FINEST_PATCH + (FINEST_PATCH - 1) / 2).query(pixels)[1]
    return nearest.reshape(size).astype(np.int32)


def joined(
    views: Sequence[TokenView], corners: Sequence[tuple[int, int]], size: tuple[int, int]
) -> TokenView:
    """Views of an image's windows as one; where they overlap, the last one is seen.

    Args:
        views: of the windows, at least one.
        corners: top and left of each in the image.
        size: height and width of the image.
    """

    def cells(parts: Sequence[TokenCells]) -> TokenCells:
        owner = np.full(size, -1, dtype=np.int32)
        first = 0
        for part, corner in zip(parts, corners, strict=True):
            shifted = np.where(part.owner >= 0, part.owner + first, -1)
            _paste(owner, shifted, corner)
            first += len(part.sides)
        return replace(
            parts[0],
            title=parts[0].title + (f' ({len(parts)} windows)' if len(parts) > 1 else ''),
            owner=owner,
            sides=np.concatenate([part.sides for part in parts]),
            total=sum(part.total for part in parts),
        )

    def scores(parts: Sequence[ScoreMap]) -> ScoreMap:
        values = np.full(size, np.nan, dtype=np.float32)
        for part, corner in zip(parts, corners, strict=True):
            _paste(values, part.values, corner)
        return ScoreMap(parts[0].title, values)

    all_cells = [view.cells for view in views if view.cells is not None]
    return TokenView(
        tuple(cells(parts) for parts in zip(*(view.rounds for view in views), strict=True)),
        tuple(scores(parts) for parts in zip(*(view.scores for view in views), strict=True)),
        cells(all_cells) if len(all_cells) == len(views) else None,
    )


def _of_points(tokens: MixedTokens, index: int) -> TokenView:
    size = tokens.canvas
    finest = tokens.levels[-1].lengths[index]
    stages = tuple(
        TokenCells(
            f'stage {_stage(level)}: {{count}} of {{total}} tokens',
            point_cells(_places(level, index), size),
            np.full(level.lengths[index], level.patch_size, dtype=np.int32),
            finest,
            'points',
        )
        for level in reversed(tokens.levels[:-1])
    )
    return TokenView(stages)


def _of_reduced(tokens: ReducedTokens, index: int) -> TokenView:
    layout = tokens.layout
    rows, columns = layout.grid
    first, count = sum(layout.lengths[:index]), layout.lengths[index]
    if layout.owner is None:
        owner = np.arange(rows * columns).reshape(rows, columns)
    else:
        owner = _numpy(layout.owner[index]) - first
    owner = _to_pixels(owner.astype(np.int32), layout.patch_size)
    sides = _numpy(layout.sizes[first : first + count]).astype(np.int32) * layout.patch_size
    cells = TokenCells('{count} tokens for {total} patches', owner, sides, rows * columns, 'mosaic')
    halted = []
    for number, halt in enumerate(tokens.halts, 1):
        goes_on = np.ones(len(layout), dtype=bool)
        if halt.rows is not None:
            goes_on[:] = False
            goes_on[_numpy(halt.rows)] = True
        goes_on = goes_on[first : first + count]
        numbers = np.where(goes_on, np.cumsum(goes_on) - 1, -1).astype(np.int32)
        title = f'head {number}: {{count}} of {{total}} tokens halted'
        halted.append(TokenCells(title, numbers[owner], sides[goes_on], count, 'halted'))
    return TokenView(tuple(halted), cells=cells)


def _mixed_cells(tokens: MixedTokens, index: int) -> TokenCells:
    found = _numpy(finest_token_map(tokens.levels)[index])
    rows, numbers = np.unique(found, return_inverse=True)
    sides = np.concatenate([np.full(len(level), level.patch_size) for level in tokens.levels])
    owner = _to_pixels(numbers.reshape(found.shape).astype(np.int32), FINEST_PATCH)
    total = sum(level.lengths[index] for level in tokens.levels)
    return TokenCells(
        '{total} tokens, the finest seen', owner, sides[rows].astype(np.int32), total, 'mosaic'
    )


def _patch_cells(
    level: TokenSet, index: int, canvas: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    xy = _places(level, index) // level.unit
    owner = np.full(level.grid, -1, dtype=np.int32)
    owner[xy[:, 1], xy[:, 0]] = np.arange(len(xy))
    pixels = _to_pixels(owner, level.patch_size)[: canvas[0], : canvas[1]]
    return pixels, np.full(len(xy), level.patch_size, dtype=np.int32)


def _places(level: TokenSet, index: int) -> np.ndarray:
    """``(N, 2)`` coordinates of an image's tokens."""
    begin, end = (int(level.offsets[index + i]) for i in range(2))
    return _numpy(level.xy[begin:end])


def _stage(level: TokenSet) -> int:
    """An AutoFocusFormer stage by its nominal patch size: 1 for 4 px, 2 for 8 px."""
    return (level.patch_size // FINEST_PATCH).bit_length()


def _to_pixels(cells: np.ndarray, side: int) -> np.ndarray:
    return cells.repeat(side, 0).repeat(side, 1)


def _paste(target: np.ndarray, part: np.ndarray, corner: tuple[int, int]) -> None:
    """Put what fits of a part with its top-left corner there."""
    top, left = corner
    place = target[top : top + part.shape[0], left : left + part.shape[1]]
    place[...] = part[: place.shape[0], : place.shape[1]]


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
