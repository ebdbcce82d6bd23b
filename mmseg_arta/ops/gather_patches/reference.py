"""Patch gathering in plain PyTorch."""

from __future__ import annotations

from torch import Tensor

from ...structures import FINEST_PATCH


def gather_patches(image: Tensor, xy: Tensor, batch: Tensor, patch_size: int) -> Tensor:
    """See :func:`mmseg_arta.ops.gather_patches`."""
    _, channels, height, width = image.shape
    rows, cols = height // patch_size, width // patch_size
    unit = patch_size // FINEST_PATCH
    index = (batch * rows + xy[:, 1] // unit) * cols + xy[:, 0] // unit
    # A view of the image by patch; indexing copies only the patches asked for.
    tiles = image.unflatten(3, (cols, patch_size)).unflatten(2, (rows, patch_size))
    tiles = tiles.permute(0, 2, 4, 3, 5, 1).reshape(-1, patch_size * patch_size * channels)
    return tiles.index_select(0, index)
