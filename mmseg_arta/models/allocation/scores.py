"""Boundary scores: how much class boundary a token's patch holds."""

from __future__ import annotations

from torch import Tensor, nn


class BoundaryScorePredictor(nn.Module):
    """MLP from a token to its class-boundary score (ARTA 3.3.1).

    Two Linear - GELU - LayerNorm layers and a Linear to one value, without a
    sigmoid: the score regresses the share of boundary pixels in the patch, by the loss of
    :class:`~mmseg_arta.models.decode_heads.BoundaryScoreHead`.

    Args:
        dim: channels of the candidate tokens.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, dim),
            nn.GELU(),
            nn.LayerNorm(dim),
            nn.Linear(dim, dim),
            nn.GELU(),
            nn.LayerNorm(dim),
            nn.Linear(dim, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C)`` to ``(N,)``."""
        return self.layers(x)[:, 0]
