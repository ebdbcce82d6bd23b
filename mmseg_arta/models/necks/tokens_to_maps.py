"""Dense maps for stock heads from tokens of mixed resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...ops import finest_token_map
from ...structures import MixedTokens, TokenMaps, TokenSet


@MODELS.register_module()
class TokensToMaps(BaseModule):
    """Turn ``MixedTokens`` into one dense map per level, finest first.

    A cell of a level's map holds the level's token at that place. Where the level has
    none, the finest coarser token that covers the place stands in, through a learned
    linear layer for every pair of levels, since channels differ (as densification in
    ARTA 3.5 replicates the finest token available).

    Args:
        in_channels: channels of the levels, coarse to fine, as the backbone's
            ``out_channels``.
        init_cfg: as in every mmengine module.

    Raises:
        ValueError: if the tokens do not have these levels and channels.
    """

    def __init__(self, in_channels: Sequence[int],
                 init_cfg: Mapping[str, Any] | None = None) -> None:
        super().__init__(init_cfg)
        self.in_channels = tuple(in_channels)
        # lifts[target][source]: from a coarser source level to the target level.
        self.lifts = nn.ModuleList(
            nn.ModuleList(nn.Linear(self.in_channels[source], target)
                          for source in range(level))
            for level, target in enumerate(self.in_channels))

    def forward(self, tokens: MixedTokens) -> TokenMaps:
        """Maps ``(B, C, ceil(H / P), ceil(W / P))`` for patch sizes ``P``, finest first.

        Args:
            tokens: of a sparse backbone whose coarsest level covers the canvas.
        """
        found = tuple(level.feats.shape[1] for level in tokens.levels)
        if found != self.in_channels:
            raise ValueError(f'TokensToMaps.in_channels is {self.in_channels}, but the backbone '
                             f'gives levels with {found} channels (coarse to fine)')
        maps = [self._dense(tokens.levels[:level + 1], tokens.image_size)
                for level in range(len(tokens.levels))]
        return TokenMaps(reversed(maps), tokens)

    def _dense(self, levels: Sequence[TokenSet], image_size: tuple[int, int]) -> Tensor:
        lifts = self.lifts[len(levels) - 1]
        rows = [lift(level.feats) for lift, level in zip(lifts, levels[:-1], strict=True)]
        table = torch.cat([*rows, levels[-1].feats])
        # Padding of the canvas is cut off here, before a head resizes the maps.
        size = levels[-1].patch_size
        height, width = -(-image_size[0] // size), -(-image_size[1] // size)
        cells = finest_token_map(levels)[:, :height, :width]
        dense = table.index_select(0, cells.flatten()).view(*cells.shape, -1)
        return dense.permute(0, 3, 1, 2).contiguous()
