"""Which pixels tokens cover, and how much class boundary is among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..structures import MixedTokens, TokenSet


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


def labels_on_canvas(
    samples: Sequence[Any], tokens: MixedTokens, ignore_index: int = 255
) -> Tensor:
    """Ground truth of a test batch, resized to the network's input and padded with ignore.

    Args:
        samples: with ``gt_sem_seg`` and ``img_shape``, the image's size in the input.
        tokens: of the same batch.

    Returns:
        ``(B, H, W)`` int64 on the canvas.
    """
    device = tokens.levels[0].xy.device
    labels = torch.full((len(samples), *tokens.canvas), ignore_index, device=device)
    for image, sample in enumerate(samples):
        height, width = sample.metainfo.get('img_shape', tokens.image_size)[:2]
        truth = sample.gt_sem_seg.data.to(device=device, dtype=torch.float32)[None]
        if truth.shape[2:] != (height, width):
            truth = F.interpolate(truth, size=(height, width), mode='nearest')
        labels[image, :height, :width] = truth[0, 0].to(torch.int64)
    return labels


def _to_pixels(cells: Tensor, canvas: tuple[int, int]) -> Tensor:
    factor = canvas[0] // cells.shape[1]
    return cells.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
