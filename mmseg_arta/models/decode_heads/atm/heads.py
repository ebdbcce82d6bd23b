"""Attention-to-mask heads: SegViT's, its Shrunk variant, and those of DToP and STEP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from ....option_checks import (
    MOST_CHANNELS,
    MOST_LAYERS,
    MOST_PATCHES,
    MOST_PIXELS,
    check_flag,
    check_heads,
    check_rate,
    check_whole,
    check_wholes,
)
from ...layers import fit_positions, remember_grid, resize_positions
from ...token_reduction import ActiveTokens, ReducedTokens, TokenLayout, join_masks
from .base import ATMBase, Prediction, upsample
from .decoder import ATMDecoder, TokenDecoder


@MODELS.register_module()
class ATMHead(ATMBase):
    """Attention-to-mask head over several stages of a plain backbone (SegViT 3.3).

    The deepest stage is decoded first, and its queries go on to the next; masks of the stages
    add up, and the last one classifies. Takes the tokens of
    :class:`~mmseg_arta.models.backbones.StepViT`, merged ones too, or the maps of any backbone
    whose stages have one size. Predicts class scores: class probability x mask probability.

    The second version, which DToP's and STEP's baselines have, is ``self_attention=False,
    classes='presence'``.

    Options that are not listed are those of :class:`~.base.ATMBase`.

    Args:
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
        out_channels: int | None = None,
        **stock: Any,
    ) -> None:
        super().__init__(
            stock,
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
            out_channels,
        )
        check_whole(self, most=MOST_LAYERS, num_layers=num_layers)
        check_heads(self, channels, num_heads=num_heads)
        check_rate(self, dropout=dropout)
        check_flag(self, self_attention=self_attention, weigh_areas=weigh_areas)
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


@MODELS.register_module()
class ShrunkATMHead(ATMBase):
    """Attention-to-mask on tokens decoded from a shrunk backbone (SegViT 3.5).

    A learned token per patch attends to the stage before down-sampling, then to the last one;
    class queries then attend to these tokens. Every layer's masks are a prediction of their own.

    Options that are not listed are those of :class:`~.base.ATMBase`.

    Args:
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
        out_channels: int | None = None,
        **stock: Any,
    ) -> None:
        super().__init__(
            stock,
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
            out_channels,
        )
        check_whole(self, most=MOST_LAYERS, num_layers=num_layers)
        check_heads(self, channels, num_heads=num_heads)
        check_rate(self, dropout=dropout)
        rows, columns = check_wholes(self, 1, MOST_PIXELS, 2, grid=grid)
        check_whole(self, most=MOST_PATCHES, **{'grid (rows x columns)': rows * columns})
        self.grid = (rows, columns)
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Linear(in_channels, channels), nn.LayerNorm(channels))
            for _ in range(num_stages)
        )
        self.token_decoders = nn.ModuleList(
            TokenDecoder(num_layers, channels, num_heads, dropout) for _ in range(num_stages)
        )
        self.token_queries = nn.Embedding(self.grid[0] * self.grid[1], channels)
        remember_grid(self)
        self.decoder = ATMDecoder(num_layers, channels, num_heads, True, dropout)
        self.queries = nn.Embedding(num_classes, channels)
        self.class_embed = nn.Linear(channels, self.class_outputs)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        key = f'{prefix}token_queries.weight'
        if key in state_dict:
            source = local_metadata.get('grid')
            state_dict[key] = fit_positions(state_dict[key][None], self.grid, source)[0]
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

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
        layers = self.decoder(queries, learned.flatten(0, 1), layout.lengths, every=True)
        return [(self.class_embed(query), logits) for query, logits in layers]


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
        check_whole(self, most=MOST_CHANNELS, in_channels=in_channels, channels=channels)
        check_whole(self, most=MOST_CHANNELS, num_classes=num_classes)
        check_whole(self, most=MOST_LAYERS, num_layers=num_layers)
        check_heads(self, channels, num_heads=num_heads)
        check_rate(self, dropout=dropout)
        check_flag(self, self_attention=self_attention, weigh_areas=weigh_areas)
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
        areas = ATMBase.log_areas(layout) if self.weigh_areas else None
        if areas is not None and tokens.rows is not None:
            areas = areas.index_select(0, tokens.rows)
        queries = self.queries.weight.expand(layout.batch_size, -1, -1)
        memory = self.input_proj(tokens.feats)
        queries, logits = self.decoder(queries, memory, tokens.lengths, areas)[-1]
        return self.class_embed(queries), logits


@MODELS.register_module()
class HaltingATMHead(ATMBase):
    """Predicts the tokens that reached the end, and joins those that stopped (DToP 3.3).

    A halted token keeps the mask logits of the stage where it stopped; the class probabilities
    are the final head's for all. Every stage has a loss on its own joined prediction, so the
    heads inside the backbone need no auxiliary head.

    Options that are not listed are those of :class:`~.base.ATMBase`.

    Args:
        num_layers, num_heads, self_attention, dropout, weigh_areas: see
            :class:`ATMTokenClassifier`; STEP's baseline has no self-attention.
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
        patch_size: int = 16,
        loss: Mapping[str, Any] | None = None,
        ignore_index: int = 255,
        align_corners: bool = False,
        init_cfg: Mapping[str, Any] | None = None,
        out_channels: int | None = None,
        **stock: Any,
    ) -> None:
        super().__init__(
            stock,
            in_channels,
            channels,
            num_classes,
            'presence',
            patch_size,
            1,
            loss,
            ignore_index,
            align_corners,
            init_cfg,
            out_channels,
        )
        self.classifier = ATMTokenClassifier(
            in_channels,
            channels,
            num_classes,
            num_layers,
            num_heads,
            self_attention,
            dropout,
            weigh_areas,
        )

    def predictions(self, tokens: ReducedTokens) -> list[Prediction]:
        """One per halting point, and the final one, see :class:`~.base.ATMBase`.

        Raises:
            ValueError: if a halting point predicts another number of classes.
        """
        for halt in tokens.halts:
            classes = halt.mask_logits.shape[1]
            if classes != self.num_classes:
                raise ValueError(
                    f'HaltingATMHead.num_classes is {self.num_classes}, but a head of '
                    f'backbone.halting predicts {classes} classes'
                )
        last = tokens.stages[-1]
        class_logits, logits = self.classifier(last, tokens.layout)
        joined = join_masks(logits, last.rows, tokens.halts)
        halted = [(halt.class_logits, halt.mask_logits) for halt in tokens.halts]
        return [*halted, (class_logits, joined)]

    def probabilities(self, cells: Tensor, layout: TokenLayout) -> Tensor:
        """As published, probabilities are resized here, not logits: see :class:`~.base.ATMBase`."""
        return upsample(cells.sigmoid(), layout)
