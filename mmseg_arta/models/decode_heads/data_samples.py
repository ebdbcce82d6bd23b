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


def input_size(
    grid: Sequence[int], stride: int, metas: Sequence[Mapping[str, Any]]
) -> tuple[int, int] | None:
    """Height and width in pixels of what the backbone was given, if the samples tell.

    Args:
        grid: ``(rows, columns)`` of the backbone's finest map.
        stride: of that map in pixels.
        metas: of the samples; the first one counts. As in stock heads an ``img_shape`` of type
            ``torch.Size`` is that of a window of slide mode; otherwise it is ``pad_shape``, or
            ``img_shape`` where nothing was padded. A size that does not fit the map is passed over.
    """
    if not metas:
        return None
    keys = ['pad_shape', 'img_shape']
    if isinstance(metas[0].get('img_shape'), torch.Size):
        keys.reverse()
    for key in keys:
        size = tuple(metas[0].get(key, ())[:2])
        if size and tuple(-(-side // stride) for side in size) == tuple(grid):
            return size
    return None
