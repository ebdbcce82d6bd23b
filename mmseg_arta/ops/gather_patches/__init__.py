"""Raw pixels of given patches, packed."""

from __future__ import annotations

from torch import Tensor

from ...structures import FINEST_PATCH
from ...structures.contents import readable
from .. import checks
from ..backend import chosen_backend, register_op
from . import kernels, reference

register_op('gather_patches', kernels.FORWARD)


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
        ValueError: if the image does not divide into patches, or an argument does not fit.
        IndexError: if a patch lies outside the image; on CUDA its numbers are 0 instead. A place
            that is no multiple of the patch is a ValueError on the CPU.
    """
    checks.integers(xy=xy)
    checks.int64(batch=batch)
    checks.same_device(image=image, xy=xy, batch=batch)
    if image.ndim != 4:
        raise ValueError(f'image must be (B, C, H, W), found {tuple(image.shape)}')
    if tuple(xy.shape) != (batch.shape[0], 2):
        raise ValueError(
            f'xy must be ({batch.shape[0]}, 2) for batch {tuple(batch.shape)}, '
            f'found {tuple(xy.shape)}'
        )
    checks.size(FINEST_PATCH, kernels.MOST_SIZE, patch_size=patch_size)
    if patch_size % FINEST_PATCH:
        raise ValueError(f'patch_size must be a multiple of {FINEST_PATCH}, found {patch_size}')
    height, width = image.shape[2:]
    if height % patch_size or width % patch_size:
        raise ValueError(
            f'image of {height}x{width} px does not divide into patches of {patch_size} px'
        )
    reason = kernels.unsupported(image)
    chosen = chosen_backend('gather_patches', image, (('cpu', reason), ('cuda', reason)))
    if chosen == 'reference':
        if readable(xy):
            kernels.contents(image, xy, batch, patch_size)
        return reference.gather_patches(image, xy, batch, patch_size)
    return kernels.forward(image, xy, batch, patch_size, chosen)
