"""Patch and position embedding of a plain Vision Transformer, for supertokens too."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import to_maps, to_rows
from ..token_reduction import TokenLayout


def embed_supertokens(
    image: Tensor, layout: TokenLayout, projection: nn.Conv2d, positions: Tensor
) -> Tensor:
    """Tokens of patches and merged groups (CTS 3.3; STEP 3.2, eq. 1).

    The pixels of a group of ``s x s`` patches are resized bilinearly to one patch and projected
    as any patch; its position embedding is the mean over the patches it covers (for 2x2 groups
    that is the published halving of both).

    Args:
        image: ``(B, 3, H, W)``, padded to whole patches.
        layout: where the tokens lie.
        projection: the patch projection.
        positions: ``(1, rows * columns, C)`` position embeddings of the layout's grid.

    Returns:
        ``(T, C)``.
    """
    if layout.owner is None:
        return (to_rows(projection(image)) + positions).flatten(0, 1)
    # Rows are sorted by image and size: gather size by size, then bring them back in order.
    order = layout.sizes.argsort(stable=True)
    image_of = layout.batch_index().index_select(0, order)
    places = layout.places.index_select(0, order)
    totals = [sum(count) for count in zip(*layout.counts, strict=True)]
    maps = to_maps(positions, layout.grid)
    pixels, means = [], []
    for batch, place, size in zip(
        image_of.split(totals), places.split(totals), layout.group_sizes, strict=True
    ):
        if len(batch):
            row, col = place.unbind(1)
            row, col = row // size, col // size
            pixels.append(_shrunk(image, size, layout.patch_size)[batch, row, col])
            means.append(F.avg_pool2d(maps, size)[0].permute(1, 2, 0)[row, col])
    feats = F.linear(torch.cat(pixels).flatten(1), projection.weight.flatten(1), projection.bias)
    back = torch.empty_like(order)
    back.scatter_(0, order, torch.arange(len(order), device=order.device))
    return (feats + torch.cat(means)).index_select(0, back)


def _shrunk(image: Tensor, size: int, patch: int) -> Tensor:
    """Whole groups resized to a patch each: view ``(B, rows, columns, 3, patch, patch)``."""
    side = size * patch
    rows, cols = image.shape[2] // side, image.shape[3] // side
    if size > 1 and rows and cols:
        image = F.interpolate(
            image[:, :, : rows * side, : cols * side],
            (rows * patch, cols * patch),
            mode='bilinear',
            align_corners=False,
        )
    image = image[:, :, : rows * patch, : cols * patch]
    return image.unflatten(3, (cols, patch)).unflatten(2, (rows, patch)).permute(0, 2, 4, 1, 3, 5)
