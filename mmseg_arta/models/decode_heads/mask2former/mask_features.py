"""Densified mask features (ARTA 3.5), and mask logits without a dense product.

The feature of a place is the mask feature of the finest token that covers it plus an
embedding of the place (ARTA 3.5). So a query's logit there is ``query . token`` plus
``query . embedding``: two small products whose results are looked up per place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ....ops import finest_token_map
from ....structures import TokenSet, host_sizes, largest, mask_step, without_autocast


def at_least_float32(x: Tensor) -> Tensor:
    """``x``, in float32 if its numbers have fewer digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@dataclass(frozen=True)
class Factor:
    """A summand of the mask features: some channels of every cell come from a small table.

    Attributes:
        rows: ``(B or 1, S, c)`` the table.
        channels: which ``c`` of the mask channels it adds to.
        index: ``(B or 1, cells)`` int64, the table's row for every cell.
    """

    rows: Tensor
    channels: slice
    index: Tensor


@dataclass(frozen=True)
class MaskFeatures:
    """Mask features of a batch as a sum of :class:`Factor`.

    Attributes:
        factors: the summands.
        grid: ``(rows, columns)`` of cells on the canvas.
    """

    factors: tuple[Factor, ...]
    grid: tuple[int, int]

    def logits(self, embed: Tensor) -> Tensor:
        """Products of query embeddings ``(B, Q, C)`` with all cells, ``(B, Q, rows, columns)``."""
        batch, queries, _ = embed.shape
        kind = torch.promote_types(embed.dtype, torch.float32)
        with without_autocast(embed), mask_step(embed, self.grid):
            total = self._logits(embed.to(kind), batch, queries)
        return total.unflatten(2, self.grid)

    def _logits(self, embed: Tensor, batch: int, queries: int) -> Tensor:
        total: Tensor | None = None
        for factor in self.factors:
            rows = factor.rows.to(embed.dtype)
            small = embed[..., factor.channels] @ rows.transpose(1, 2)
            index = factor.index.expand(batch, -1)
            term = small.gather(2, index[:, None].expand(-1, queries, -1))
            total = term if total is None else total.add_(term)
        assert total is not None
        return total

    def means(self, cells: Tensor, channels: int) -> Tensor:
        """Mean features of groups of cells.

        A query's product with the mean is the mean of its logits in these cells.

        Args:
            cells: ``(B, M, g)`` int64 cells of every group, in raster order.
            channels: of the mask features.

        Returns:
            ``(B, M, channels)`` in float32 or better.
        """
        batch, _, size = host_sizes(cells)
        flat = cells.flatten(1)
        out: Tensor | None = None
        for factor in self.factors:
            rows = at_least_float32(factor.rows)
            index = factor.index.expand(batch, -1).gather(1, flat)
            if len(rows) > 1:
                first = torch.arange(batch, device=rows.device) * rows.shape[1]
                index = index + first[:, None]
            table = rows.flatten(0, 1)
            total = F.embedding_bag(index.view(-1, size), table, mode='sum').view(
                batch, -1, table.shape[1]
            )
            if out is None and table.shape[1] == channels:
                out = total
                continue
            if out is None:
                out = total.new_zeros((*total.shape[:2], channels))
            out[..., factor.channels].add_(total)
        assert out is not None
        return out.mul_(1 / size)

    def dense(self, channels: int) -> Tensor:
        """The features themselves ``(B, C, rows, columns)``: what all else here avoids."""
        batch = max(factor.index.shape[0] for factor in self.factors)
        cells = self.grid[0] * self.grid[1]
        out = self.factors[0].rows.new_zeros((batch, cells, channels))
        for factor in self.factors:
            rows = factor.rows.expand(batch, -1, -1)
            index = factor.index.expand(batch, -1)[..., None].expand(-1, -1, rows.shape[2])
            out[..., factor.channels] = out[..., factor.channels] + rows.gather(1, index)
        return out.transpose(1, 2).unflatten(2, self.grid)


@dataclass(frozen=True)
class CellTokens:
    """Which token every cell of the finest grid gets its mask feature from.

    Attributes:
        rows: ``(B, rows, columns)`` int64 rows of the levels laid end to end.
        levels: the levels, coarse to fine.
    """

    rows: Tensor
    levels: tuple[TokenSet, ...]

    @classmethod
    def of(cls, levels: Sequence[TokenSet]) -> CellTokens:
        return cls(finest_token_map(levels), tuple(levels))

    @property
    def grid(self) -> tuple[int, int]:
        _, rows, columns = host_sizes(self.rows)
        return rows, columns

    def factor(self, feats: Tensor) -> Factor:
        """The tokens' own part of the mask features.

        A query is multiplied with no more rows than there are cells: tokens that are the finest
        at some place come first, and the host knows how many those can be at most.

        Args:
            feats: ``(V, C)`` mask features, levels laid end to end.
        """
        device = self.rows.device
        image = torch.cat([level.batch_index() for level in self.levels])
        # Numbers, since PyTorch's tracer cannot fill in truth values.
        seen = torch.zeros_like(image).index_fill_(0, self.rows.flatten(), 1)
        # Rows by image, those that are seen first.
        order = torch.sort(image * 2 - seen, stable=True).indices
        first = torch.stack([level.offsets[:-1] for level in self.levels]).sum(0)
        per_image = zip(*(level.lengths for level in self.levels), strict=True)
        width = torch.sym_min(
            largest(*(sum(counts) for counts in per_image)),
            self.grid[0] * self.grid[1],
        )
        # Images with fewer seen tokens are filled up with rows that no cell looks up.
        slots = (first[:, None] + torch.arange(width, device=device)).clamp(max=len(order) - 1)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=device)
        index = place[self.rows].flatten(1) - first[:, None]
        return Factor(feats[order[slots]], slice(0, feats.shape[1]), index)


def central_cells(level: TokenSet, cells: CellTokens) -> Tensor:
    """The four central cells of every token's patch, ``(T, 4)`` int64 in raster order.

    Their mean is what interpolation from the 4 nearest cells gives at the patch's centre.
    A patch of one cell has it four times. So has a point: interpolation by inverse distances
    gives all the weight to the cell that the point lies in.
    """
    grid = cells.grid
    # Cells are patches of the finest level, which may be larger than the finest patch.
    step = cells.levels[-1].unit
    unit = max(level.unit // step, 1) if level.kind == 'patch' else 1
    xy = level.xy if step == 1 else level.xy // step
    low, high = (unit - 1) // 2, unit // 2
    steps = torch.arange(low, low + 2, device=xy.device).clamp_(max=high)
    near = xy[..., None] + steps
    # Coarse maps of images that are no multiple of their stride reach beyond the finest one.
    columns = near[:, 0].clamp(max=grid[1] - 1)
    rows = near[:, 1].clamp(max=grid[0] - 1)
    return torch.add(columns[:, None], rows[:, :, None], alpha=grid[1]).flatten(1)
