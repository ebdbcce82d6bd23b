"""What heads read from data samples: labels, and the size of the images behind maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def stack_labels(samples: Sequence[Any]) -> Tensor:
    """Label maps ``(B, H, W)`` of a batch, from samples with ``gt_sem_seg``."""
    return torch.stack([sample.gt_sem_seg.data.squeeze(0) for sample in samples])


def mark_padding(mask: Tensor, samples: Sequence[Any]) -> Tensor:
    """``mask (B, H, W)`` bool, True also where a sample's ``padding_size`` says it was padded.

    That is what preprocessors note of a batch that they stack: pixels left, right, above and below.
    """
    for shown, sample in zip(mask, samples, strict=True):
        padding = sample.metainfo.get('padding_size', (0, 0, 0, 0))
        if any(padding):
            left, right, top, bottom = (int(pixels) for pixels in padding)
            height, width = shown.shape
            for part in (
                shown[:top],
                shown[height - bottom :],
                shown[:, :left],
                shown[:, width - right :],
            ):
                part.fill_(True)
    return mask


def check_label_size(name: str, labels: Tensor, size: Sequence[int]) -> None:
    """Raises ValueError if ``labels (B, H, W)`` are not of ``size`` (height, width)."""
    if tuple(labels.shape[1:]) != tuple(size):
        raise ValueError(
            f'{name}: images are {tuple(size)} (height, width), labels {tuple(labels.shape[1:])}'
        )


def check_cover(
    name: str, grids: Sequence[Sequence[int]], patch_sizes: Sequence[int], size: Sequence[int]
) -> None:
    """Raises ValueError if maps are not those of patches of such sizes.

    Args:
        name: of the head, for the error.
        grids: ``(rows, columns)`` of the maps.
        patch_sizes: side of a cell of each map in pixels, as the head's option says.
        size: height and width in pixels of the images. The last patch of a side may reach beyond
            them, or be left out.
    """
    pairs = list(zip(grids, patch_sizes, strict=True))
    if all(_covers(grid, patch, size) for grid, patch in pairs):
        return
    found = ', '.join(f'{rows}x{columns} cells of {patch} px' for (rows, columns), patch in pairs)
    raise ValueError(
        f'{name}: images are {tuple(size)} (height, width), but the maps would be {found}: check '
        'patch_size (patch_sizes), or the strides and dilations of the backbone'
    )


def _covers(grid: Sequence[int], patch: int, size: Sequence[int]) -> bool:
    return all(
        side // patch <= cells <= -(-side // patch) for side, cells in zip(size, grid, strict=True)
    )


def input_size(
    name: str, grid: Sequence[int], stride: int, metas: Sequence[Mapping[str, Any]]
) -> tuple[int, int] | None:
    """Height and width in pixels of what the backbone was given, if the samples tell.

    Args:
        name: of the head, for the error.
        grid: ``(rows, columns)`` of the backbone's finest map.
        stride: of that map in pixels.
        metas: of the samples; the first one counts. As in stock heads an ``img_shape`` of type
            ``torch.Size`` is that of a window of slide mode; otherwise it is ``pad_shape``, or
            ``img_shape`` where nothing was padded. A size that does not fit the map is passed over.

    Raises:
        ValueError: if there are sizes, none of which such a map could come of.
    """
    if not metas:
        return None
    keys = ['pad_shape', 'img_shape']
    if isinstance(metas[0].get('img_shape'), torch.Size):
        keys.reverse()
    sizes = [tuple(metas[0][key][:2]) for key in keys if metas[0].get(key)]
    for size in sizes:
        if tuple(-(-side // stride) for side in size) == tuple(grid):
            return size
    if sizes and not any(_covers(grid, stride, size) for size in sizes):
        check_cover(name, [grid], [stride], sizes[0])
    return None
