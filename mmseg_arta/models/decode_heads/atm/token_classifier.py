"""Single-stage attention-to-mask prediction of packed tokens (DToP's pruning head)."""

from __future__ import annotations

from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...token_reduction import ActiveTokens, TokenLayout
from .decoder import ATMDecoder


@MODELS.register_module()
class ATMTokenClassifier(BaseModule):
    """Predicts active tokens with queries of its own; each class is present or absent.

    DToP's heads at halting points and at the end are of this kind, with query self-attention;
    STEP's without it.

    Args:
        in_channels: channels of the tokens.
        channels: channels of the decoder.
        num_classes: classes.
        num_layers: decoder layers.
        num_heads: attention heads.
        self_attention: whether queries attend to each other.
        dropout: of the decoder.
        weigh_areas: let merged tokens count as many times as they cover patches.
    """

    def __init__(
        self,
        in_channels: int = 768,
        channels: int = 384,
        num_classes: int = 150,
        num_layers: int = 3,
        num_heads: int = 12,
        self_attention: bool = True,
        dropout: float = 0.1,
        weigh_areas: bool = True,
    ) -> None:
        super().__init__()
        self.num_classes, self.weigh_areas = num_classes, weigh_areas
        self.input_proj = nn.Sequential(nn.Linear(in_channels, channels), nn.LayerNorm(channels))
        self.decoder = ATMDecoder(num_layers, channels, num_heads, self_attention, dropout)
        self.queries = nn.Embedding(num_classes, channels)
        self.class_embed = nn.Linear(channels, 2)

    def init_weights(self) -> None:
        """Linear layers: truncated normal of std 0.02."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self._is_init = True

    def forward(self, tokens: ActiveTokens, layout: TokenLayout) -> tuple[Tensor, Tensor]:
        """Class logits ``(B, classes, 2)`` and mask logits ``(A, classes)`` of active tokens."""
        areas = layout.areas() if self.weigh_areas else None
        if areas is not None:
            areas = areas.float().log()
            areas = areas if tokens.rows is None else areas.index_select(0, tokens.rows)
        queries = self.queries.weight.expand(layout.batch_size, -1, -1)
        memory = self.input_proj(tokens.feats)
        queries, logits = self.decoder(queries, memory, tokens.lengths, areas)[-1]
        return self.class_embed(queries), logits
