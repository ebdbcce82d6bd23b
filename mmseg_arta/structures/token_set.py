"""Tokens of one resolution level, packed over the images of a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from .host_sizes import host_sizes
from .host_values import offsets_from_lengths

#: Side of the finest patch in pixels; token coordinates are counted in it.
FINEST_PATCH = 4

#: Most pixels of a patch's side.
MOST_PATCH_SIZE = 1 << 20

TokenKind = Literal['patch', 'point']


def batch_index(offsets: Tensor, total: int) -> Tensor:
    """Image index of every packed row.

    Args:
        offsets: ``(B + 1,)`` row offsets.
        total: number of rows, ``offsets[-1]``, known to the caller so that no
            device value has to be read.

    Returns:
        ``(total,)`` int64 image indices.
    """
    rows = torch.arange(total, device=offsets.device, dtype=offsets.dtype)
    return torch.searchsorted(offsets[1:].contiguous(), rows, right=True)


@dataclass(frozen=True)
class TokenSet:
    """Tokens of one level of a batch: variable-length sequences laid end to end.

    Rows are in raster order within an image, and images follow each other.

    Attributes:
        feats: ``(T, C)`` features.
        xy: ``(T, 2)`` int32 top-left corner ``(x, y)`` of the token's patch, in
            units of the finest patch (4 px). For ``kind='point'`` the place itself.
        offsets: ``(B + 1,)`` int32; rows ``offsets[b]:offsets[b + 1]`` are image ``b``.
        lengths: the same as Python integers, one per image.
        patch_size: side of a patch in pixels; of points what it would be on a regular grid.
        grid: ``(rows, columns)`` of patches of this size on the canvas, rounded up.
        kind: ``'patch'`` (a token covers its patch) or ``'point'``.
    """

    feats: Tensor
    xy: Tensor
    offsets: Tensor
    lengths: tuple[int, ...]
    patch_size: int
    grid: tuple[int, int]
    kind: TokenKind = 'patch'

    def __post_init__(self) -> None:
        rows = sum(self.lengths)
        if self.feats.ndim != 2 or self.feats.shape[0] != rows:
            raise ValueError(
                f'TokenSet: feats must be ({rows}, C) for lengths {self.lengths}, '
                f'found {tuple(self.feats.shape)}'
            )
        if tuple(self.xy.shape) != (rows, 2):
            raise ValueError(f'TokenSet: xy must be ({rows}, 2), found {tuple(self.xy.shape)}')
        if tuple(self.offsets.shape) != (len(self.lengths) + 1,):
            raise ValueError(
                f'TokenSet: offsets must be ({len(self.lengths) + 1},), '
                f'found {tuple(self.offsets.shape)}'
            )
        if not 1 <= self.patch_size <= MOST_PATCH_SIZE:
            raise ValueError(
                f'TokenSet: patch_size must be from 1 to {MOST_PATCH_SIZE}, found {self.patch_size}'
            )
        for name in ('xy', 'offsets'):
            device = getattr(self, name).device
            if device != self.feats.device:
                raise ValueError(
                    f'TokenSet: {name} must be on {self.feats.device} as feats are, found {device}'
                )
        if self.xy.is_floating_point() or self.xy.is_complex() or self.xy.dtype == torch.bool:
            raise ValueError(f'TokenSet: xy must hold integers, found {self.xy.dtype}')
        if not torch.compiler.is_compiling() and any(length < 0 for length in self.lengths):
            raise ValueError(f'TokenSet: lengths must not be negative, found {self.lengths}')
        if self.kind not in ('patch', 'point'):
            raise ValueError(f"TokenSet: kind must be 'patch' or 'point', found {self.kind!r}")

    def __len__(self) -> int:
        return host_sizes(self.feats)[0]

    @property
    def batch_size(self) -> int:
        return len(self.lengths)

    @property
    def unit(self) -> int:
        """Side of a patch in units of the finest patch."""
        return max(self.patch_size // FINEST_PATCH, 1)

    def batch_index(self) -> Tensor:
        """``(T,)`` int64 image index of every row."""
        return self._once('_batch_index', lambda: batch_index(self.offsets, len(self)))

    def centers(self) -> Tensor:
        """``(T, 2)`` float32 centres in units of the finest patch.

        A patch of 4 px has its centre on its own coordinate; a larger one
        ``unit / 2 - 0.5`` further right and down. Points are their own centres.
        """
        return self._once('_centers', self._compute_centers)

    def _compute_centers(self) -> Tensor:
        xy = self.xy.to(torch.float32)
        return xy if self.kind == 'point' else xy + (self.unit / 2 - 0.5)

    def _once(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        """What depends on places alone is computed once for tokens with any features."""
        # A compiler merges equal computations itself.
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return compute()
        if name not in self.__dict__:
            object.__setattr__(self, name, compute())
        return self.__dict__[name]

    def with_feats(self, feats: Tensor) -> TokenSet:
        """The same tokens with other features ``(T, C')``."""
        other = replace(self, feats=feats)
        for name in ('_batch_index', '_centers'):
            if name in self.__dict__:
                object.__setattr__(other, name, self.__dict__[name])
        return other

    @classmethod
    def from_map(cls, feats: Tensor, patch_size: int, kind: TokenKind = 'patch') -> TokenSet:
        """All tokens of a dense map ``(B, C, H, W)`` whose cells are ``patch_size`` px wide.

        Raises:
            ValueError: if ``patch_size`` is no multiple of the finest patch, which places are
                counted in.
        """
        if patch_size % FINEST_PATCH:
            raise ValueError(
                f'TokenSet.from_map: patch_size must be a multiple of {FINEST_PATCH}, '
                f'found {patch_size}'
            )
        batch, channels, height, width = host_sizes(feats)
        rows = feats.permute(0, 2, 3, 1).reshape(batch * height * width, channels)
        lengths = (height * width,) * batch
        return cls(
            rows,
            full_grid(batch, (height, width), patch_size, feats.device),
            offsets_from_lengths(lengths, feats.device),
            lengths,
            patch_size,
            (height, width),
            kind,
        )


def at_least_one(rows: Tensor) -> Tensor:
    """Rows ``(T, ...)`` for indices to point into: if ``T`` is 0, one of zeros.

    A compiled graph serves all ``T``, so there a row of zeros always follows the others.
    """
    if not torch.compiler.is_compiling() and rows.shape[0]:
        return rows
    return torch.cat((rows, rows.new_zeros((1, *rows.shape[1:]))))


def full_grid(batch: int, grid: tuple[int, int], patch_size: int, device: torch.device) -> Tensor:
    """Coordinates ``(batch * rows * columns, 2)`` int32 of every patch of a grid, raster order."""
    unit = max(patch_size // FINEST_PATCH, 1)
    ys = torch.arange(grid[0], device=device, dtype=torch.int32) * unit
    xs = torch.arange(grid[1], device=device, dtype=torch.int32) * unit
    yy, xx = torch.meshgrid(ys, xs, indexing='ij')
    return torch.stack((xx, yy), dim=-1).view(1, -1, 2).expand(batch, -1, -1).reshape(-1, 2)
