"""Per-channel scale of a residual branch."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LayerScale(nn.Module):
    """Multiply by a learned vector ``(dim,)`` that starts at ``init``.

    Args:
        dim: channels.
        init: initial value.
    """

    def __init__(self, dim: int, init: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


def layer_scale(dim: int, init: float) -> nn.Module:
    """A :class:`LayerScale`, or identity when ``init`` is 0."""
    return LayerScale(dim, init) if init else nn.Identity()
