"""Which pixels tokens cover, and how much class boundary is among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..structures import MixedTokens, TokenSet
from .windows import Window


def token_cover(level: TokenSet, canvas: tuple[int, int]) -> Tensor:
    """Pixels under the patches of a level, ``(B, H, W)`` bool on the canvas."""
    rows, cols = level.grid
    cells = torch.zeros(level.batch_size * rows * cols, dtype=torch.bool, device=level.xy.device)
    place = (level.batch_index() * rows + level.xy[:, 1] // level.unit) * cols
    cells[place + level.xy[:, 0] // level.unit] = True
    return _to_pixels(cells.view(-1, rows, cols), canvas)


def random_tokens_like(tokens: MixedTokens, generator: torch.Generator) -> Tensor:
    """Pixels under as many finest tokens whose parents are drawn uniformly from the image.

    Args:
        tokens: whose number of finest tokens per image is taken.
        generator: CPU generator.

    Returns:
        ``(B, H, W)`` bool on the canvas.
    """
    parent = tokens.levels[-2]
    rows, cols = (-(-side // parent.patch_size) for side in tokens.image_size)
    cells = torch.zeros((tokens.batch_size, *parent.grid), dtype=torch.bool)
    for image, count in enumerate(tokens.levels[-1].lengths):
        drawn = torch.zeros(rows * cols, dtype=torch.bool)
        drawn[torch.randperm(rows * cols, generator=generator)[: count // 4]] = True
        cells[image, :rows, :cols] = drawn.view(rows, cols)
    return _to_pixels(cells, tokens.canvas).to(parent.xy.device)


def covered_share(edges: Tensor, cover: Tensor) -> float:
    """Share of marked pixels of ``edges (B, H, W)`` that ``cover (B, H, W)`` covers; 0 if none."""
    return float((edges & cover).sum()) / max(int(edges.sum()), 1)


def ignore_index_of(model: nn.Module) -> int:
    """Label of ignored pixels, as a segmentor's (last) head has it; 255 if it has none."""
    head = getattr(getattr(model, 'module', model), 'decode_head', None)
    if isinstance(head, nn.ModuleList):
        head = head[-1]
    return int(getattr(head, 'ignore_index', 255))


def labels_of_input(samples: Sequence[Any], ignore_index: int = 255) -> Tensor:
    """Ground truth of a test batch, resized to the network's input.

    Args:
        samples: with ``gt_sem_seg`` and ``img_shape``, the image's size in the input.
        ignore_index: fills what smaller images of the batch leave free.

    Returns:
        ``(B, H, W)`` int64, as large as the largest image.
    """
    sizes = [sample.metainfo['img_shape'][:2] for sample in samples]
    truth = samples[0].gt_sem_seg.data
    full = (len(samples), *(max(sides) for sides in zip(*sizes, strict=True)))
    labels = torch.full(full, ignore_index, dtype=torch.int64, device=truth.device)
    for image, (sample, size) in enumerate(zip(samples, sizes, strict=True)):
        truth = sample.gt_sem_seg.data.to(torch.float32)[None]
        if tuple(truth.shape[2:]) != tuple(size):
            truth = F.interpolate(truth, size=tuple(size), mode='nearest')
        labels[image, : size[0], : size[1]] = truth[0, 0].to(torch.int64)
    return labels


def edges_in_window(edges: Tensor, window: Window) -> Tensor:
    """The part of ``edges (B, H, W)`` that a window saw, ``(B, h, w)`` on its canvas."""
    height, width = window.tokens.canvas
    part = edges[:, window.top : window.top + height, window.left : window.left + width]
    return F.pad(part, (0, width - part.shape[2], 0, height - part.shape[1]))


def _to_pixels(cells: Tensor, canvas: tuple[int, int]) -> Tensor:
    factor = canvas[0] // cells.shape[1]
    return cells.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
