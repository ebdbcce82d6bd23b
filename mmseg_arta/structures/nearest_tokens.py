"""For given places, the nearest tokens of a level."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class NearestTokens:
    """The k nearest tokens of one level for a set of places of the same images.

    Attributes:
        rows: ``(..., k)`` int64 rows of the level's packed tokens, nearest first; -1 where
            the image has fewer than ``k`` tokens of the level. The leading dimensions are
            the places': ``(P,)`` packed, or ``(B, rows, columns)`` for every cell of a grid.
    """

    rows: Tensor

    @property
    def k(self) -> int:
        return self.rows.shape[-1]

    def valid(self) -> Tensor:
        """``(..., k)`` bool, which of the neighbours exist."""
        return self.rows >= 0

    def shifted(self, first: int) -> Tensor:
        """``(..., k)`` int64 rows counted from ``first``, for levels laid end to end; -1 stays."""
        return self.rows + first * self.valid()
