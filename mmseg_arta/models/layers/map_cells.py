"""Cells of maps whose last patches reach beyond the image."""

from __future__ import annotations

import torch
from torch import Tensor

from ...structures import host_sizes


def share_extent(maps: Tensor, dim: int, patch_size: int, extent: int) -> Tensor:
    """Maps whose last patches reach beyond the image, as cells that share the image evenly.

    Heads take the cells of a side for equal parts of it. Each is interpolated linearly between the
    two patches nearest to its centre.

    Args:
        maps: with ``ceil(extent / patch_size)`` patches along ``dim``.
        dim: of rows or of columns.
        patch_size: in pixels.
        extent: of the image along ``dim``, in pixels.

    Returns:
        as many cells; ``maps`` themselves where the patches end with the image.
    """
    count = host_sizes(maps)[dim]
    if count * patch_size == extent:
        return maps
    cells = torch.arange(count, dtype=torch.float32, device=maps.device)
    # Never behind the patch of the same number, and less than one before it.
    centres = ((cells + 0.5) * (extent / (count * patch_size)) - 0.5).clamp(min=0)
    low = centres.floor()
    share = (centres - low).to(maps.dtype)
    share = share.view([-1 if axis == dim % maps.ndim else 1 for axis in range(maps.ndim)])
    low = low.long()
    before, behind = (
        maps.index_select(dim, low),
        maps.index_select(dim, low.add(1).clamp(max=count - 1)),
    )
    return before.lerp(behind, share)
