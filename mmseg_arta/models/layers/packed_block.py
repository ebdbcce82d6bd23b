"""What transformer blocks on packed tokens have in common."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .row_blocks import by_rows


class PackedBlock(nn.Module):
    """Pre-norm transformer block on packed tokens: what follows its attention.

    Of a block it needs ``scale1``, ``norm2``, ``mlp``, ``scale2`` and ``drop_path``.
    """

    def _finish(self, x: Tensor, attended: Tensor, batch: Tensor, images: int) -> Tensor:
        """Both short connections and the feed-forward network, ``(T, C)`` to ``(T, C)``.

        Args:
            x: ``(T, C)`` the block's input.
            attended: ``(T, C)`` what its attention makes of it.
            batch: ``(T,)`` int64 image of every row.
            images: number of images.
        """

        def finish(x: Tensor, attended: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
            x = x + self.drop_path(self.scale1(attended), batch, images)
            return x, self.drop_path(self.scale2(self.mlp(self.norm2(x))), batch, images)

        # Stochastic depth draws once for all rows of an image.
        return by_rows(finish, x, attended, batch, last=torch.add, at_once=self.training)
