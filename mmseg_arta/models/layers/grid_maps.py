"""Rows of tokens on a grid as maps and back, in the layout in which convolutions are fast."""

from __future__ import annotations

import torch
from torch import Tensor


def to_maps(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """View rows ``(B, N, C)`` in raster order of ``grid`` as maps ``(B, C, rows, columns)``.

    PyTorch knows them as channels last, for a single image too. Made by transposing and
    unflattening, the maps of one image would have the channels' stride along the batch; PyTorch
    takes those for channels first, and depth-wise convolutions on a CPU then take many times as
    long.
    """
    return x.unflatten(1, grid).permute(0, 3, 1, 2)


def to_rows(maps: Tensor) -> Tensor:
    """Maps ``(B, C, rows, columns)`` as rows ``(B, N, C)``, a view if channels are last."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2)


def for_convolutions(image: Tensor) -> Tensor:
    """``image (B, C, H, W)`` with channels last if on a CPU.

    Convolutions of few channels, and all that follow, are several times as fast there that way.
    """
    if image.device.type == 'cpu':
        return image.contiguous(memory_format=torch.channels_last)
    return image
