"""Supertokens of a batch: where they lie, which are active, and what the backbone hands on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch
from torch import Tensor

from ...structures import host_sizes, offsets_from_lengths
from ...structures.token_set import batch_index


@dataclass(frozen=True)
class TokenLayout:
    """Supertokens that cover a grid of patches without overlap.

    A supertoken stands for a superpatch, a square group of ``size x size`` patches; 1 is a plain
    patch. Rows are ordered by image, then by size, then raster, as CTS orders them.

    Attributes:
        places: ``(T, 2)`` int64 row and column of the group's top-left patch.
        sizes: ``(T,)`` int64 side of the group in patches.
        owner: ``(B, rows, columns)`` int64, the row of the token that covers a patch; ``None``
            when every patch is a token of its own.
        lengths: tokens per image, on the host.
        counts: per image, tokens of every entry of ``group_sizes``, on the host.
        group_sizes: the sizes that may occur, ascending, 1 first.
        grid: rows and columns of patches.
        patch_size: side of a patch in pixels.
        image_size: height and width before padding, in pixels.
    """

    places: Tensor
    sizes: Tensor
    owner: Tensor | None
    lengths: tuple[int, ...]
    counts: tuple[tuple[int, ...], ...]
    group_sizes: tuple[int, ...]
    grid: tuple[int, int]
    patch_size: int
    image_size: tuple[int, int]

    def __len__(self) -> int:
        return host_sizes(self.sizes)[0]

    @property
    def batch_size(self) -> int:
        return len(self.lengths)

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of patches that show a part of the image."""
        height, width = (-(-side // self.patch_size) for side in self.image_size)
        return height, width

    def areas(self) -> Tensor | None:
        """``(T,)`` int64 patches per token; ``None`` when every token is one patch."""
        return None if self.owner is None else self.sizes * self.sizes

    def batch_index(self) -> Tensor:
        """``(T,)`` int64 image of every token."""
        return batch_index(offsets_from_lengths(self.lengths, self.sizes.device), len(self))

    def to_cells(self, values: Tensor) -> Tensor:
        """Copy every token's values to the patches it covers.

        Args:
            values: ``(T, C)``.

        Returns:
            ``(B, C, rows, columns)``.
        """
        if self.owner is None:
            cells = values.view(self.batch_size, *self.grid, -1)
        else:
            cells = values.index_select(0, self.owner.flatten()).view(*self.owner.shape, -1)
        return cells.permute(0, 3, 1, 2)

    def for_image(self, image_size: tuple[int, int]) -> TokenLayout:
        """The same layout for images of ``(height, width)`` pixels before padding."""
        height, width = (side * self.patch_size for side in self.grid)
        if image_size[0] > height or image_size[1] > width:
            raise ValueError(
                f'images are {image_size} (height, width), but the {self.grid[0]}x{self.grid[1]} '
                f'patches of {self.patch_size} px cover {(height, width)}'
            )
        return replace(self, image_size=image_size)

    @classmethod
    def plain(
        cls,
        batch: int,
        grid: tuple[int, int],
        patch_size: int,
        image_size: tuple[int, int],
        device: torch.device,
    ) -> TokenLayout:
        """Every patch of ``batch`` images is a token."""
        places = _raster(grid, device).expand(batch, -1, -1).reshape(-1, 2)
        total = grid[0] * grid[1]
        return cls(
            places,
            torch.ones(batch * total, dtype=torch.int64, device=device),
            None,
            (total,) * batch,
            ((total,),) * batch,
            (1,),
            grid,
            patch_size,
            image_size,
        )

    @classmethod
    def merged(
        cls,
        groups: dict[int, Tensor],
        counts: tuple[tuple[int, ...], ...] | None,
        grid: tuple[int, int],
        patch_size: int,
        image_size: tuple[int, int],
    ) -> TokenLayout:
        """Groups chosen for merging, and the patches that are in none.

        Args:
            groups: group size to ``(B, rows // size, columns // size)`` bool, whether the group
                is merged; groups of different sizes must not overlap.
            counts: merged groups per image and size (sizes ascending, patches left out), if the
                caller knows them; else they are read from the device, once.
            grid: rows and columns of patches.
            patch_size: side of a patch in pixels.
            image_size: height and width before padding.
        """
        sizes = sorted(groups)
        device = groups[sizes[0]].device
        batch = host_sizes(groups[sizes[0]])[0]
        free = torch.ones((batch, *grid), dtype=torch.bool, device=device)
        for size in sizes:
            free &= ~_spread(groups[size], size, grid, False)
        chosen = torch.cat([free.flatten(1), *(groups[size].flatten(1) for size in sizes)], 1)
        if counts is None:
            found = torch.stack([groups[size].flatten(1).sum(1) for size in sizes], 1)
            counts = tuple(tuple(row) for row in found.tolist())
        area = grid[0] * grid[1]
        full = tuple(
            (area - sum(n * s * s for n, s in zip(row, sizes, strict=True)), *row) for row in counts
        )
        lengths = tuple(sum(row) for row in full)
        places = torch.cat(
            [_raster(grid, device)]
            + [_raster((grid[0] // s, grid[1] // s), device) * s for s in sizes]
        )
        side = torch.cat(
            [torch.full(((grid[0] // s) * (grid[1] // s),), s, device=device) for s in (1, *sizes)]
        )
        rows = true_rows(chosen.flatten(), sum(lengths))
        index = rows % chosen.shape[1]
        number = (chosen.flatten().cumsum(0) - 1).view(batch, -1)
        owner = number[:, :area].view(batch, *grid)
        begin = area
        for size in sizes:
            shape = host_sizes(groups[size])[1:]
            part = number[:, begin : begin + shape[0] * shape[1]].view(batch, *shape)
            begin += shape[0] * shape[1]
            inside = _spread(groups[size], size, grid, False)
            owner = torch.where(inside, _spread(part, size, grid, 0), owner)
        return cls(
            places.index_select(0, index),
            side.index_select(0, index),
            owner,
            lengths,
            full,
            (1, *sizes),
            grid,
            patch_size,
            image_size,
        )


# For stock heads and necks.
_NO_MAPS = (
    'StepViT hands out packed tokens, and what stands behind it takes maps: set maps=True in the '
    'backbone, or use a head for its tokens, such as ATMHead'
)


@dataclass(frozen=True)
class ActiveTokens:
    """Features of the tokens that a stage still computes, packed.

    Attributes:
        feats: ``(A, C)``.
        rows: ``(A,)`` int64 ascending rows in the layout; ``None`` when none has left.
        lengths: active tokens per image, on the host.
    """

    feats: Tensor
    rows: Tensor | None
    lengths: tuple[int, ...]

    def __getattr__(self, name: str) -> NoReturn:
        # Asked for what is not there alone; what Python itself asks for is no mistake.
        hint = '' if name.startswith('_') else f': {_NO_MAPS}'
        raise AttributeError(f'{type(self).__name__!r} object has no attribute {name!r}{hint}')

    @classmethod
    def __torch_function__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(_NO_MAPS)


@dataclass(frozen=True)
class StagePrediction:
    """Prediction of a head at a halting point, or at the end (DToP 3.2).

    Attributes:
        class_logits: ``(B, Q, 2)``: class present, class absent.
        mask_logits: ``(T, Q)`` of every token of the layout: a halted token keeps the logits of
            the stage where it left.
        lengths: tokens per image that the stage's head saw.
        kept: tokens per image that go on; equal to ``lengths`` at the end.
        rows: ``(A,)`` rows of the tokens that go on; ``None`` for all.
    """

    class_logits: Tensor
    mask_logits: Tensor
    lengths: tuple[int, ...]
    kept: tuple[int, ...]
    rows: Tensor | None


@dataclass(frozen=True)
class ReducedTokens(Sequence[ActiveTokens]):
    """Output of :class:`~mmseg_arta.models.backbones.StepViT`; a sequence of its stages.

    Attributes:
        layout: the supertokens of the batch.
        stages: tokens after every block of ``out_indices``.
        halts: predictions at the halting points, shallow to deep.
    """

    layout: TokenLayout
    stages: tuple[ActiveTokens, ...]
    halts: tuple[StagePrediction, ...] = ()

    def __len__(self) -> int:
        return len(self.stages)

    def __getitem__(self, index: Any) -> Any:
        return self.stages[index]


def true_rows(flags: Tensor, total: int) -> Tensor:
    """Ascending positions of the ``total`` set entries of ``flags (N,)``, without a host read."""
    return (~flags).to(torch.uint8).argsort(stable=True)[:total]


def _raster(grid: tuple[int, int], device: torch.device) -> Tensor:
    """``(rows * columns, 2)`` int64 row and column of every cell."""
    number = torch.arange(grid[0] * grid[1], device=device)
    return torch.stack((number // max(grid[1], 1), number % max(grid[1], 1)), 1)


def _spread(values: Tensor, size: int, grid: tuple[int, int], fill: int | bool) -> Tensor:
    """Values ``(B, rows // size, columns // size)`` on the patches; ``fill`` beyond the groups."""
    big = values.repeat_interleave(size, 1).repeat_interleave(size, 2)
    rows, columns = host_sizes(big)[1:]
    if (rows, columns) == tuple(grid):
        return big
    # A graph of torch.jit has no op that takes a bool here.
    out = values.new_full((values.shape[0], *grid), int(fill))
    out[:, :rows, :columns] = big
    return out
