"""Raw pixels of given patches, packed."""

from __future__ import annotations

from torch import Tensor

from ..structures import FINEST_PATCH


def gather_patches(image: Tensor, xy: Tensor, batch: Tensor, patch_size: int) -> Tensor:
    """Pixels of the patches at the given places (ARTA 3.3.3).

    Args:
        image: ``(B, C, H, W)``, ``H`` and ``W`` multiples of ``patch_size``.
        xy: ``(T, 2)`` top-left corners ``(x, y)`` in units of 4 px, multiples of the patch.
        batch: ``(T,)`` int64 image of each patch.
        patch_size: side ``P`` in pixels, a multiple of 4.

    Returns:
        ``(T, P * P * C)``: pixels in raster order, channels fastest.

    Raises:
        ValueError: if the image does not divide into patches.
    """
    _, channels, height, width = image.shape
    if height % patch_size or width % patch_size:
        raise ValueError(
            f'image of {height}x{width} px does not divide into patches of {patch_size} px'
        )
    rows, cols = height // patch_size, width // patch_size
    unit = patch_size // FINEST_PATCH
    index = (batch * rows + xy[:, 1] // unit) * cols + xy[:, 0] // unit
    # A view of the image by patch; indexing copies only the patches asked for.
    tiles = image.unflatten(3, (cols, patch_size)).unflatten(2, (rows, patch_size))
    tiles = tiles.permute(0, 2, 4, 3, 5, 1).reshape(-1, patch_size * patch_size * channels)
    return tiles.index_select(0, index)
