"""Terms of a relative position that weights and biases are learned from (AFF 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor


def position_terms(delta: Tensor, expanded: bool = True) -> Tensor:
    """``dx, dy, distance, sin = dy / distance, cos = dx / distance`` of relative positions.

    At distance 0 sin and cos are 0.

    Args:
        delta: ``(..., 2)`` relative positions ``(dx, dy)``.
        expanded: give all five terms; else ``(dx, dy)`` alone (AFF table 5).

    Returns:
        ``(..., 5)`` or ``(..., 2)``.
    """
    if not expanded:
        return delta
    distance = delta.square().sum(-1, keepdim=True).sqrt()
    unit = delta / distance.clamp(min=1e-6)
    return torch.cat((delta, distance, unit.flip(-1)), -1)
