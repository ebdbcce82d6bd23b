"""SegViT's Shrunk head: learned tokens recover the resolution the backbone gave up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmseg.registry import MODELS
from torch import nn

from ...layers import resize_positions
from ...token_reduction import ReducedTokens
from .base import ATMBase, Prediction
from .decoder import ATMDecoder
from .token_decoder import TokenDecoder


@MODELS.register_module()
class ShrunkATMHead(ATMBase):
    """Attention-to-mask on tokens decoded from a shrunk backbone (SegViT 3.5).

    A learned token per patch attends to the stage before down-sampling, then to the last one;
    class queries then attend to these tokens. Every layer's masks are a prediction of their own.

    Args:
        in_channels, channels, num_classes, patch_size, loss, ignore_index, align_corners,
        init_cfg: see :class:`~.base.ATMBase`.
        grid: rows and columns of learned tokens, the training crop's patches; resized
            bicubically for others.
        num_stages: stages attended to, in the backbone's order.
        num_layers: layers per stage, and of the class queries.
        num_heads: attention heads.
        dropout: of all decoders.
    """

    def __init__(
        self,
        in_channels: int = 1024,
        channels: int = 512,
        num_classes: int = 150,
        grid: Sequence[int] = (40, 40),
        num_stages: int = 2,
        num_layers: int = 3,
        num_heads: int = 16,
        dropout: float = 0.1,
        patch_size: int = 16,
        loss: Mapping[str, Any] | None = None,
        ignore_index: int = 255,
        align_corners: bool = False,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            channels,
            num_classes,
            'all',
            patch_size,
            num_stages,
            loss,
            ignore_index,
            align_corners,
            init_cfg,
        )
        self.grid = (grid[0], grid[1])
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Linear(in_channels, channels), nn.LayerNorm(channels))
            for _ in range(num_stages)
        )
        self.token_decoders = nn.ModuleList(
            TokenDecoder(num_layers, channels, num_heads, dropout) for _ in range(num_stages)
        )
        self.token_queries = nn.Embedding(self.grid[0] * self.grid[1], channels)
        self.decoder = ATMDecoder(num_layers, channels, num_heads, True, dropout)
        self.queries = nn.Embedding(num_classes, channels)
        self.class_embed = nn.Linear(channels, self.class_outputs)

    def predictions(self, tokens: ReducedTokens) -> list[Prediction]:
        """One per layer of the class queries, see :class:`~.base.ATMBase`.

        Raises:
            ValueError: for merged tokens.
        """
        layout = tokens.layout
        if layout.owner is not None:
            raise ValueError('ShrunkATMHead: the backbone must not merge tokens')
        learned = resize_positions(self.token_queries.weight[None], self.grid, layout.grid)
        learned = learned.expand(layout.batch_size, -1, -1)
        for stage, project, decoder in zip(
            tokens.stages, self.input_proj, self.token_decoders, strict=True
        ):
            memory = project(stage.feats).unflatten(0, (layout.batch_size, -1))
            learned = decoder(learned, memory)
        queries = self.queries.weight.expand(layout.batch_size, -1, -1)
        found = self.decoder(queries, learned.flatten(0, 1), layout.lengths, every=True)
        return [(self.class_embed(query), logits) for query, logits in found]
