"""Dense maps for stock heads from tokens of mixed resolution; the sparse head needs none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...ops import finest_token_map
from ...option_checks import MOST_CHANNELS, MOST_WHOLE, check_choice, check_init_cfg, check_wholes
from ...structures import MixedTokens, TokenMaps, TokenSet
from ..layers import share_extent


@MODELS.register_module()
class TokensToMaps(BaseModule):
    """Turn ``MixedTokens`` into one dense map per level, finest first.

    A cell of a level's map holds the level's token at that place. Where the level has
    none, the finest coarser token that covers the place stands in, through a learned
    linear layer for every pair of levels, since channels differ (as densification in
    ARTA 3.5 replicates the finest token available). Points, as AutoFocusFormer's, cover no
    patch: there a cell takes the level's token that is nearest to its centre.

    Heads take the cells of a map to share the image evenly. Where the last patches reach beyond
    the image, its map is interpolated linearly to cells that do (``align_corners=False``).

    Args:
        in_channels: channels of the levels, coarse to fine, as the backbone's
            ``out_channels``.
        out_indices: which maps to make, 0 the finest; all by default. Name just those
            that the head uses (its ``in_index`` then counts among them), so that no
            layer is left without a gradient.
        kind: of the tokens, 'patch' or 'point'; points need no linear layers.
        init_cfg: as in every mmengine module.

    Raises:
        ValueError: for an unknown index or kind, or if the tokens are of another kind or do not
            have these levels and channels.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_indices: Sequence[int] | None = None,
        kind: str = 'patch',
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        check_init_cfg(self, init_cfg)
        check_choice(self, ('patch', 'point'), kind=kind)
        channels = check_wholes(self, most=MOST_CHANNELS, in_channels=in_channels)
        super().__init__(init_cfg)
        self.in_channels = channels
        count = len(self.in_channels)
        self.out_indices = tuple(range(count))
        if out_indices is not None:
            self.out_indices = check_wholes(self, -MOST_WHOLE, MOST_WHOLE, out_indices=out_indices)
        if not all(0 <= index < count for index in self.out_indices):
            raise ValueError(
                f'TokensToMaps.out_indices must name maps from 0 (the finest) to '
                f'{count - 1}, found {list(self.out_indices)}'
            )
        self.kind = kind
        # Layers from every coarser level to a map's level, by the map's index.
        self.lifts = nn.ModuleDict(
            {
                str(index): nn.ModuleList(
                    nn.Linear(source, self.in_channels[-1 - index])
                    for source in self.in_channels[: count - 1 - index]
                    if kind == 'patch'
                )
                for index in self.out_indices
            }
        )

    def forward(self, tokens: MixedTokens) -> TokenMaps:
        """Maps ``(B, C, ceil(H / P), ceil(W / P))`` for patch sizes ``P``, finest first.

        Args:
            tokens: of a sparse backbone; patches of the coarsest level cover the canvas.
        """
        channels = tuple(level.feats.shape[1] for level in tokens.levels)
        if channels != self.in_channels:
            raise ValueError(
                f'TokensToMaps.in_channels is {self.in_channels}, but the backbone '
                f'gives levels with {channels} channels (coarse to fine)'
            )
        kinds = {level.kind for level in tokens.levels}
        if kinds != {self.kind}:
            raise ValueError(
                f'TokensToMaps.kind is {self.kind!r}, but the backbone gives tokens of kind '
                f'{" and ".join(map(repr, sorted(kinds)))}'
            )
        count = len(tokens.levels)
        maps = []
        for index in self.out_indices:
            # No point of a coarser level is nearer than the nearest one of the map's own.
            first = 0 if self.kind == 'patch' else count - 1 - index
            levels = tokens.levels[first : count - index]
            # To a checker a ModuleDict holds plain modules.
            lifts = cast(nn.ModuleList, self.lifts[str(index)])
            maps.append(self._dense(lifts, levels, tokens.image_size))
        return TokenMaps(maps, tokens)

    @staticmethod
    def _dense(
        lifts: nn.ModuleList, levels: Sequence[TokenSet], image_size: tuple[int, int]
    ) -> Tensor:
        rows = [lift(level.feats) for lift, level in zip(lifts, levels[:-1], strict=True)]
        table = torch.cat([*rows, levels[-1].feats])
        # Padding of the canvas is cut off here, before a head resizes the maps.
        size = levels[-1].patch_size
        height, width = -(-image_size[0] // size), -(-image_size[1] // size)
        cells = finest_token_map(levels)[:, :height, :width]
        dense = table.index_select(0, cells.flatten()).view(*cells.shape, -1)
        dense = share_extent(dense, 1, size, image_size[0])
        dense = share_extent(dense, 2, size, image_size[1])
        return dense.permute(0, 3, 1, 2).contiguous()
