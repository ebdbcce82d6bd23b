"""Stochastic depth that drops whole images, not single tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Drop a residual branch for a random subset of the images of a batch.

    Packed tokens have no batch dimension, so the mask is drawn per image and
    spread over its rows.

    Args:
        prob: probability of dropping, in [0, 1).
    """

    def __init__(self, prob: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= prob < 1.0:
            raise ValueError(f'drop path probability must be in [0, 1), found {prob}')
        self.prob = prob

    def forward(self, x: Tensor, batch: Tensor | None = None, batch_size: int = 0) -> Tensor:
        """Args:
        x: ``(B, ...)``, or packed ``(T, C)`` when ``batch`` is given.
        batch: ``(T,)`` int64 image of every row.
        batch_size: number of images, needed with ``batch``.
        """
        if not self.training or self.prob == 0.0:
            return x
        images = x.shape[0] if batch is None else batch_size
        keep = 1.0 - self.prob
        scale = torch.empty(images, dtype=x.dtype, device=x.device).bernoulli_(keep).div_(keep)
        if batch is not None:
            scale = scale.index_select(0, batch)
        return x * scale.view(-1, *([1] * (x.ndim - 1)))

    def extra_repr(self) -> str:
        return f'prob={self.prob:.3f}'
