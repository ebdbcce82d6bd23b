"""Which tokens a regular grid of twice the local stride would keep (AFF 3.3.2)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ...ops import nearest_tokens
from ...structures import TokenSet

#: 'l2' as in the published code, 'l1' as in the paper, 'none' for no prior.
GridPrior = Literal['l2', 'l1', 'none']

_FAR = 1 << 30


def grid_prior(tokens: TokenSet, grid: tuple[int, int], distance: GridPrior = 'l2') -> Tensor:
    """Adaptive grid prior: 1 for tokens on a grid of twice the local stride, else 0.

    A token's stride is the distance to its nearest neighbour, rounded up to a power of two.

    Args:
        tokens: points on the 4 px grid.
        grid: ``(rows, columns)`` of the canvas in units of 4 px.
        distance: how the distance to the neighbour is measured; 'none' gives zeros.

    Returns:
        ``(T,)`` bool.

    Raises:
        ValueError: for an unknown distance.
    """
    check_grid_prior(distance)
    if distance == 'none':
        return torch.zeros(len(tokens), dtype=torch.bool, device=tokens.xy.device)
    l1 = distance == 'l1'
    squared = _nearest_l1(tokens, grid) ** 2 if l1 else _nearest_l2_squared(tokens)
    # Smallest e with 2^e >= distance, in integers; a lone token has no stride.
    powers = 4 ** torch.arange(28, device=squared.device)
    double = 2 << torch.searchsorted(powers, squared)
    return on_grid(tokens.xy, double[:, None]) & (squared < _FAR)


def check_grid_prior(distance: str) -> None:
    """Raises ValueError if ``distance`` is not one of :data:`GridPrior`."""
    if distance not in ('l2', 'l1', 'none'):
        raise ValueError(f"grid_prior must be 'l2', 'l1' or 'none', found {distance!r}")


def on_grid(xy: Tensor, stride: int | Tensor) -> Tensor:
    """``(T,)`` bool, which places ``xy (T, 2)`` have both coordinates divisible by ``stride``."""
    return (xy.long() % stride == 0).all(1)


def _nearest_l2_squared(tokens: TokenSet) -> Tensor:
    """Squared Euclidean distance to the nearest other token of the image, ``(T,)`` int64."""
    xy = tokens.xy.long()
    # The nearest one is the token itself.
    other = nearest_tokens(tokens.xy, tokens.lengths, tokens, 2).rows[:, 1]
    squared = (xy[other.clamp(min=0)] - xy).square().sum(1)
    return squared.masked_fill(other < 0, _FAR)


def _nearest_l1(tokens: TokenSet, grid: tuple[int, int]) -> Tensor:
    """Manhattan distance to the nearest other token of the image, ``(T,)`` int64.

    In time proportional to the cells: first along rows, then along columns.
    """
    rows, cols = grid
    batch, (x, y) = tokens.batch_index(), tokens.xy.long().unbind(1)
    present = torch.zeros((tokens.batch_size, rows, cols), dtype=torch.bool, device=x.device)
    present[batch, y, x] = True
    column = torch.arange(cols, device=x.device).expand_as(present)
    row = torch.arange(rows, device=x.device)[:, None]

    def gap(left: Tensor, right: Tensor) -> Tensor:
        return torch.minimum(column - left, right - column)

    # The last token up to a column, and the first one from it on; then without itself.
    left = torch.where(present, column, -_FAR).cummax(2).values
    right = torch.where(present, column, _FAR).flip(2).cummin(2).values.flip(2)
    along = gap(left, right)
    beside = gap(
        F.pad(left, (1, 0), value=-_FAR)[..., :-1], F.pad(right, (0, 1), value=_FAR)[..., 1:]
    )
    above = (along - row).cummin(1).values
    below = (along + row).flip(1).cummin(1).values.flip(1)
    above = F.pad(above, (0, 0, 1, 0), value=_FAR)[:, :-1] + row
    below = F.pad(below, (0, 0, 0, 1), value=_FAR)[:, 1:] - row
    nearest = torch.minimum(beside, torch.minimum(above, below))
    return nearest[batch, y, x].clamp(max=1 << 15)
