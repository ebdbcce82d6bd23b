"""Position embeddings: of tokens for attention, and of places in the mask features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ....structures import FINEST_PATCH, TokenSet, at_least_one
from ...layers import sine_position
from .mask_features import CellTokens, Factor

#: 'canvas': by the canvas; 'max': by the largest coordinate the level has in the batch.
Normalize = Literal['canvas', 'max']


def check_normalize(normalize: str) -> None:
    """Raises ValueError if ``normalize`` is not one of :data:`Normalize`."""
    if normalize not in ('canvas', 'max'):
        raise ValueError(f"normalize must be 'canvas' or 'max', found {normalize!r}")


def token_positions(
    levels: Sequence[TokenSet], dim: int, canvas: tuple[int, int], normalize: Normalize
) -> Tensor:
    """Sine embedding of the tokens' centres, ``(T, dim)`` float32, levels laid end to end.

    'canvas' divides coordinates by the canvas, so that an image's embedding does not depend
    on what else is in the batch; 'max' is the published way.
    """
    centers = [level.centers() for level in levels]
    if normalize == 'canvas':
        rows, cols = (-(-side // FINEST_PATCH) for side in canvas)
        return sine_position(torch.cat(centers), dim, (cols, rows))
    return torch.cat([sine_position(some, dim, at_least_one(some).amax(0)) for some in centers])


class LearnedCellPosition(nn.Module):
    """A learned embedding per patch size and per offset inside the patch (ARTA 3.5).

    It tells apart the places that share a token, independently of the image's size.

    Args:
        dim: channels of the mask features.
        patch_sizes: of all levels in pixels.
    """

    def __init__(self, dim: int, patch_sizes: Sequence[int]) -> None:
        super().__init__()
        self.first: dict[int, int] = {}
        total = 0
        for size in sorted(patch_sizes):
            self.first[size] = total
            total += max(size // FINEST_PATCH, 1) ** 2
        self.embed = nn.Embedding(total, dim)
        nn.init.trunc_normal_(self.embed.weight, std=0.02)

    def forward(self, cells: CellTokens) -> tuple[Factor, ...]:
        """The summands that this embedding adds to the mask features.

        Raises:
            ValueError: if a level has a patch size that was not named.
        """
        unknown = [x.patch_size for x in cells.levels if x.patch_size not in self.first]
        if unknown:
            raise ValueError(
                f'patch_sizes names {sorted(self.first)}, but the tokens have levels of {unknown}'
            )
        # The embedding of a place is that of its offset in the token's patch, in raster order:
        # first + (ys - y) * unit + (xs - x).
        units, starts = [], []
        for level in cells.levels:
            corner = torch.add(level.xy[:, 0], level.xy[:, 1], alpha=level.unit)
            starts.append(self.first[level.patch_size] - corner)
            units.append(torch.full_like(corner, level.unit))
        unit = torch.cat(units)[cells.rows]
        # Cells are patches of the finest level, which may be larger than the finest patch.
        step = cells.levels[-1].unit
        ys = torch.arange(0, cells.grid[0] * step, step, device=unit.device)[:, None]
        xs = torch.arange(0, cells.grid[1] * step, step, device=unit.device)
        index = ys * unit + xs + torch.cat(starts)[cells.rows]
        weight = self.embed.weight
        return (Factor(weight[None], slice(0, weight.shape[1]), index.flatten(1)),)


class SineCellPosition(nn.Module):
    """The fixed sine embedding of the place, as in the published code.

    Its halves depend on x and on y alone, so each is a table of one side of the grid.

    Args:
        dim: channels of the mask features.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, cells: CellTokens) -> tuple[Factor, ...]:
        """The summands that this embedding adds to the mask features."""
        rows, cols = cells.grid
        ys = torch.arange(rows, device=cells.rows.device)
        xs = torch.arange(cols, device=cells.rows.device)
        half = self.dim // 2
        # Normalised by the last row and column, as published.
        extent = (max(cols - 1, 1), max(rows - 1, 1))
        x_rows = sine_position(torch.stack((xs, xs), -1), self.dim, extent)[None, :, :half]
        y_rows = sine_position(torch.stack((ys, ys), -1), self.dim, extent)[None, :, half:]
        yy, xx = torch.meshgrid(ys, xs, indexing='ij')
        return (
            Factor(x_rows, slice(0, half), xx.reshape(1, -1)),
            Factor(y_rows, slice(half, self.dim), yy.reshape(1, -1)),
        )
