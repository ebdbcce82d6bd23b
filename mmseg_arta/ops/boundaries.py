"""Class boundaries of label maps: the targets of boundary scores."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..structures import FINEST_PATCH
from ..structures.contents import FARTHEST, readable, within
from . import checks
from .backend import register_op

register_op('boundary_targets')

# Label that the published models pad images with; never part of a boundary.
_PADDING_LABEL = 254
# Width of the frame in which the published code leaves ignored pixels out.
_IGNORE_FRAME = 5


def boundary_map(
    labels: Tensor,
    ignore_index: int = 255,
    ignore_as_class: bool = False,
    padding: tuple[int, int] = (0, 0),
) -> Tensor:
    """Pixels with a 4-neighbour of another class, both sides marked (ARTA 3.3.1).

    Args:
        labels: ``(B, H, W)`` integer class indices.
        ignore_index: label of ignored pixels; they make no boundary.
        ignore_as_class: do as the published code does: ignored pixels are a class of
            their own, except within 5 px of the border of the unpadded area, and label
            254 is padding.
        padding: ``(rows, columns)`` padded below and right, for ``ignore_as_class``.

    Returns:
        ``(B, H, W)`` bool.

    Raises:
        ValueError: if labels are not ``(B, H, W)``.
    """
    counted = counted_pixels(labels, ignore_index, ignore_as_class, padding)
    edges = torch.zeros_like(counted)
    vertical = (labels[:, 1:] != labels[:, :-1]) & counted[:, 1:] & counted[:, :-1]
    edges[:, 1:] |= vertical
    edges[:, :-1] |= vertical
    horizontal = (labels[:, :, 1:] != labels[:, :, :-1]) & counted[:, :, 1:] & counted[:, :, :-1]
    edges[:, :, 1:] |= horizontal
    edges[:, :, :-1] |= horizontal
    return edges


def counted_pixels(
    labels: Tensor,
    ignore_index: int = 255,
    ignore_as_class: bool = False,
    padding: tuple[int, int] = (0, 0),
) -> Tensor:
    """Pixels that may be part of a boundary, ``(B, H, W)`` bool; see :func:`boundary_map`."""
    checks.whole(ignore_index=ignore_index)
    checks.wholes(2, 0, checks.MOST, padding=padding)
    if labels.ndim != 3:
        raise ValueError(f'labels must be (B, H, W), found {tuple(labels.shape)}')
    if not ignore_as_class:
        return labels != ignore_index
    height, width = labels.shape[1] - padding[0], labels.shape[2] - padding[1]
    inner = torch.zeros(labels.shape[1:], dtype=torch.bool, device=labels.device)
    inner[_IGNORE_FRAME : height - _IGNORE_FRAME, _IGNORE_FRAME : width - _IGNORE_FRAME] = True
    return (labels != _PADDING_LABEL) & ((labels != ignore_index) | inner)


def patch_share(pixels: Tensor, patch_size: int) -> Tensor:
    """Share of marked pixels per patch, ``(B, ceil(H / P), ceil(W / P))`` float32.

    Args:
        pixels: ``(B, H, W)`` bool; places beyond the map count as unmarked.
        patch_size: side ``P`` in pixels.
    """
    checks.size(1, checks.MOST, patch_size=patch_size)
    height, width = pixels.shape[1:]
    padded = F.pad(pixels.to(torch.float32), (0, -width % patch_size, 0, -height % patch_size))
    return F.avg_pool2d(padded[:, None], patch_size)[:, 0]


def boundary_targets(edges: Tensor, xy: Tensor, batch: Tensor, patch_size: int) -> Tensor:
    """Boundary score targets: share of boundary pixels in each token's patch.

    Args:
        edges: ``(B, H, W)`` bool of :func:`boundary_map`, on the canvas or the
            unpadded image.
        xy: ``(T, 2)`` top-left corners in units of 4 px.
        batch: ``(T,)`` int64 image of each token.
        patch_size: side of the patches in pixels.

    Returns:
        ``(T,)`` float32 in [0, 1].
    """
    return at_patches(patch_share(edges, patch_size), xy, batch, patch_size)


def at_patches(grid: Tensor, xy: Tensor, batch: Tensor, patch_size: int) -> Tensor:
    """Values ``(T,)`` of a per-patch map ``(B, rows, columns)`` at tokens; 0 beyond the map.

    Raises:
        ValueError: if patches are smaller than the finest.
        IndexError: on the CPU, if a token's image is none of the map's or its place is negative.
    """
    if patch_size < FINEST_PATCH:
        raise ValueError(f'patch_size must be at least {FINEST_PATCH}, found {patch_size}')
    if readable(xy):
        # A negative index would count from the end.
        within(0, grid.shape[0] - 1, batch=batch)
        within(0, FARTHEST, xy=xy)
    unit = patch_size // FINEST_PATCH
    row, col = (xy[:, 1] // unit).to(torch.int64), (xy[:, 0] // unit).to(torch.int64)
    inside = (row < grid.shape[1]) & (col < grid.shape[2])
    values = grid[batch, row.clamp(max=grid.shape[1] - 1), col.clamp(max=grid.shape[2] - 1)]
    return torch.where(inside, values, torch.zeros_like(values))
