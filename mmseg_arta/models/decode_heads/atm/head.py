"""SegViT's head: attention-to-mask cascaded over stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmseg.registry import MODELS
from torch import Tensor, nn

from ...token_reduction import ReducedTokens
from .base import ATMBase, Prediction
from .decoder import ATMDecoder


@MODELS.register_module()
class ATMHead(ATMBase):
    """Attention-to-mask head over several stages of a plain backbone (SegViT 3.3).

    The deepest stage is decoded first, and its queries go on to the next; masks of the stages
    add up, and the last one classifies. Takes the tokens of
    :class:`~mmseg_arta.models.backbones.StepViT`, merged ones too, or the maps of any backbone
    whose stages have one size. Predicts class scores: class probability x mask probability.

    The second version, which DToP's and STEP's baselines have, is ``self_attention=False,
    classes='presence'``.

    Args:
        in_channels, channels, num_classes, classes, patch_size, loss, ignore_index,
        align_corners, init_cfg: see :class:`~.base.ATMBase`.
        num_stages: stages used, the deepest ones last in the backbone's output.
        num_layers: decoder layers per stage.
        num_heads: attention heads.
        self_attention: whether queries attend to each other.
        dropout: of the decoder.
        weigh_areas: let merged tokens count in the softmax as many times as they cover patches,
            which is what unmerging before the head gives.
    """

    def __init__(
        self,
        in_channels: int = 768,
        channels: int = 384,
        num_classes: int = 150,
        num_stages: int = 3,
        num_layers: int = 3,
        num_heads: int = 12,
        self_attention: bool = True,
        classes: str = 'all',
        dropout: float = 0.1,
        weigh_areas: bool = True,
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
            classes,
            patch_size,
            num_stages,
            loss,
            ignore_index,
            align_corners,
            init_cfg,
        )
        self.weigh_areas = weigh_areas
        # Deepest stage first.
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Linear(in_channels, channels), nn.LayerNorm(channels))
            for _ in range(num_stages)
        )
        self.decoders = nn.ModuleList(
            ATMDecoder(num_layers, channels, num_heads, self_attention, dropout)
            for _ in range(num_stages)
        )
        self.queries = nn.Embedding(num_classes, channels)
        self.class_embed = nn.Linear(channels, self.class_outputs)

    def predictions(self, tokens: ReducedTokens) -> list[Prediction]:
        """One per stage, see :class:`~.base.ATMBase`."""
        queries = self.queries.weight.expand(tokens.layout.batch_size, -1, -1)
        areas = self.log_areas(tokens.layout) if self.weigh_areas else None
        masks: Tensor | None = None
        out = []
        for stage, project, decoder in zip(
            reversed(tokens.stages), self.input_proj, self.decoders, strict=True
        ):
            memory = project(stage.feats)
            queries, logits = decoder(queries, memory, stage.lengths, areas)[-1]
            masks = logits if masks is None else masks + logits
            out.append((self.class_embed(queries), masks))
        return out
