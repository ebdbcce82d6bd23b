"""The nearest tokens of a level for given places, and interpolation from them."""

from __future__ import annotations

import torch
from torch import Tensor

from ...structures import NearestTokens, TokenSet
from .. import checks
from ..backend import chosen_backend, register_op
from . import kernels

register_op('nearest_tokens', kernels.FORWARD)


def nearest_tokens(
    places: Tensor, place_lengths: tuple[int, ...], level: TokenSet, k: int
) -> NearestTokens:
    """The ``k`` tokens of a level that are nearest to each place, among those of its image.

    Exact, by Euclidean distance to the tokens' centres; among equal distances the token with
    the lowest row comes first.

    Args:
        places: ``(P, 2)`` coordinates ``(x, y)`` in units of 4 px, packed per image.
        place_lengths: places per image.
        level: the tokens to search.
        k: how many to find.

    Returns:
        rows ``(P, k)``; -1 where an image has fewer than ``k`` tokens.

    Raises:
        ValueError: if ``k`` is not positive or too large, or the places do not fit the level's
            images; on the CPU, if a coordinate is not finite.
    """
    checks.size(1, kernels.MOST_K, k=k)
    checks.wholes(place_lengths=place_lengths)
    if len(place_lengths) != level.batch_size:
        raise ValueError(
            f'nearest_tokens: place_lengths are of {len(place_lengths)} images, the tokens of '
            f'{level.batch_size}'
        )
    if not torch.compiler.is_compiling() and any(length < 0 for length in place_lengths):
        raise ValueError(
            f'nearest_tokens: place_lengths must not be negative, found {tuple(place_lengths)}'
        )
    if tuple(places.shape) != (sum(place_lengths), 2):
        raise ValueError(
            f'nearest_tokens: places must be ({sum(place_lengths)}, 2) for place_lengths '
            f'{place_lengths}, found {tuple(places.shape)}'
        )
    checks.real(places=places)
    checks.same_device(places=places, level=level.xy)
    unsupported = (('cuda', kernels.unsupported_on_cuda(k)),)
    chosen = chosen_backend('nearest_tokens', level.xy, unsupported)
    counts = place_lengths, level.lengths
    return NearestTokens(kernels.forward(places.detach(), level.centers(), *counts, k, chosen))


def nearest_tokens_of_cells(level: TokenSet, grid: tuple[int, int], k: int) -> NearestTokens:
    """The ``k`` nearest tokens of every cell of the 4 px grid, see :func:`nearest_tokens`.

    Args:
        level: the tokens to search.
        grid: ``(rows, columns)`` of the canvas in units of 4 px.
        k: how many to find.

    Returns:
        rows ``(B, rows, columns, k)``.
    """
    checks.wholes(2, 0, 1 << 16, grid=grid)
    ys = torch.arange(grid[0], device=level.xy.device)
    xs = torch.arange(grid[1], device=level.xy.device)
    yy, xx = torch.meshgrid(ys, xs, indexing='ij')
    cells = torch.stack((xx, yy), -1).view(-1, 2)
    images = level.batch_size
    found = nearest_tokens(cells.repeat(images, 1), (len(cells),) * images, level, k)
    return NearestTokens(found.rows.view(images, *grid, k))


def inverse_distance_weights(
    squared: Tensor, valid: Tensor, power: Tensor | float, floor: float = 0.01, eps: float = 1e-6
) -> Tensor:
    """Interpolation weights of the nearest tokens, ``1 / distance^(2 power)``, summing to 1.

    Exactly ``w = 1 / (max(d^2, floor)^power + eps)`` divided by ``sum(w) + eps``, as published
    (AFF 4.1 gives the power of the distance, which is twice this one). Because of ``eps`` the
    weights fade where all tokens are very far.

    Args:
        squared: ``(..., k)`` squared distances, units of 4 px.
        valid: ``(..., k)`` bool; neighbours that do not exist weigh 0.
        power: of the squared distance; a number or a tensor of one element.
        floor: lower bound on the squared distance.
        eps: as above.

    Returns:
        ``(..., k)``; all zero where no neighbour exists.
    """
    checks.bounds(floor, eps)
    weights = 1 / (squared.clamp(min=floor) ** power + eps)
    weights = weights * valid
    return weights / (weights.sum(-1, keepdim=True) + eps)
