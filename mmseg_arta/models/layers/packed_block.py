"""What transformer blocks on packed tokens have in common."""

from __future__ import annotations

from torch import Tensor, nn

from .fused_linear import linear_add
from .row_blocks import by_rows


class PackedBlock(nn.Module):
    """Pre-norm transformer block on packed tokens: what follows its attention.

    Of a block it needs ``attn`` with its last layer ``proj``, ``scale1``, ``norm2``, ``mlp``,
    ``scale2`` and ``drop_path``.
    """

    def _finish(self, x: Tensor, attended: Tensor, batch: Tensor, images: int) -> Tensor:
        """Both short connections and the feed-forward network, ``(T, C)`` to ``(T, C)``.

        Args:
            x: ``(T, C)`` the block's input.
            attended: ``(T, C)`` what its attention makes of it, before its last layer.
            batch: ``(T,)`` int64 image of every row.
            images: number of images.
        """

        def short(x: Tensor, y: Tensor, last: nn.Linear, scale: nn.Module, rows: Tensor) -> Tensor:
            if isinstance(scale, nn.Identity) and not self.training:
                return linear_add(y, last, x)
            return x + self.drop_path(scale(last(y)), rows, images)

        def finish(x: Tensor, attended: Tensor, rows: Tensor) -> Tensor:
            x = short(x, attended, self.attn.proj, self.scale1, rows)
            hidden = self.mlp.hidden(self.norm2(x))
            return short(x, hidden, self.mlp.fc2, self.scale2, rows)

        # Stochastic depth draws once for all rows of an image.
        return by_rows(finish, x, attended, batch, at_once=self.training)
