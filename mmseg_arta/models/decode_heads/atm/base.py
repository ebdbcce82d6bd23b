"""What the attention-to-mask heads share: tokens in, class scores and losses out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ....option_checks import (
    MOST_CHANNELS,
    MOST_LAYERS,
    MOST_PIXELS,
    MOST_WHOLE,
    check_choice,
    check_config,
    check_flag,
    check_init_cfg,
    check_whole,
)
from ....structures import MixedTokens, host_sizes
from ...layers import to_rows
from ...losses import ATMLoss
from ...token_reduction import ActiveTokens, ReducedTokens, TokenLayout
from ..data_samples import check_cover, check_label_size, input_size, stack_labels
from ..one_channel import SCORE_THRESHOLD, check_out_channels, to_channels
from ..stock_options import refuse_stock_options

#: Class logits ``(B, Q, K)`` and mask logits ``(T, Q)`` of a prediction.
Prediction = tuple[Tensor, Tensor]
#: What the heads take: tokens of ``StepViT``, or maps.
Inputs = ReducedTokens | Sequence[Tensor]


class ATMBase(BaseModule):
    """Base of decode heads for the stock ``EncoderDecoder``.

    A subclass has :meth:`predictions`, all of them, the final one last.

    Args:
        stock: options that the head does not have, of stock heads perhaps.
        in_channels: channels of the backbone's tokens or maps.
        channels: channels of the decoder.
        num_classes: classes; query ``c`` stands for class ``c``.
        classes: 'all': a query is classified among the classes and 'no object' (SegViT), or
            'presence': its class is present or absent (second version).
        patch_size: side of a patch in pixels; told by the tokens, needed for maps.
        stages: maps or stages that the head takes from the backbone.
        loss: options of :class:`~mmseg_arta.models.losses.ATMLoss`.
        ignore_index: label of ignored pixels.
        align_corners: as stock heads have it; masks are resized without.
        init_cfg: as in every mmengine module.
        out_channels: 1 for two classes in one channel, as in stock heads: the second one's share.
    """

    def __init__(
        self,
        stock: Mapping[str, Any],
        in_channels: int,
        channels: int,
        num_classes: int,
        classes: str,
        patch_size: int,
        stages: int,
        loss: Mapping[str, Any] | None,
        ignore_index: int,
        align_corners: bool,
        init_cfg: Mapping[str, Any] | None,
        out_channels: int | None,
    ) -> None:
        refuse_stock_options(
            self, stock, dropout_ratio='set dropout', loss_decode='set loss=dict(...)'
        )
        check_init_cfg(self, init_cfg)
        name = type(self).__name__
        check_whole(self, most=MOST_CHANNELS, in_channels=in_channels, channels=channels)
        check_choice(self, ('all', 'presence'), classes=classes)
        check_whole(self, most=MOST_PIXELS, patch_size=patch_size)
        check_whole(self, most=MOST_LAYERS, num_stages=stages)
        check_config(self, optional=True, loss=loss)
        check_whole(self, -MOST_WHOLE, ignore_index=ignore_index)
        check_flag(self, align_corners=align_corners)
        if align_corners:
            raise ValueError(f'{name}.align_corners: only False is supported')
        super().__init__(init_cfg)
        self.in_channels, self.channels = in_channels, channels
        self.num_classes = num_classes
        self.out_channels = check_out_channels(name, num_classes, out_channels)
        self.classes, self.patch_size, self.stages = classes, patch_size, stages
        self.ignore_index, self.align_corners = ignore_index, align_corners
        self.threshold = SCORE_THRESHOLD
        self.criterion = ATMLoss(
            num_classes, classes=classes, ignore_index=ignore_index, **(loss or {})
        )

    @property
    def class_outputs(self) -> int:
        """Logits per query."""
        return self.num_classes + 1 if self.classes == 'all' else 2

    def init_weights(self) -> None:
        """Linear layers: truncated normal of std 0.02, as published."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        super().init_weights()

    def predictions(self, tokens: ReducedTokens) -> list[Prediction]:
        """Predictions for all tokens of the layout, the final one last."""
        raise NotImplementedError

    def forward(self, inputs: Inputs) -> tuple[list[Tensor], list[Tensor]]:
        """Raw predictions, the final one last.

        Args:
            inputs: :class:`ReducedTokens`, or maps ``(B, C, rows, columns)``, shallow to deep.

        Returns:
            class logits ``(B, Q, K)`` and mask logits ``(B, Q, rows, columns)`` at the patches.
        """
        tokens = self.tokens(inputs)
        class_logits, mask_logits = zip(*self.predictions(tokens), strict=True)
        return list(class_logits), [tokens.layout.to_cells(logits) for logits in mask_logits]

    def loss(
        self,
        inputs: Inputs,
        batch_data_samples: Sequence[Any],
        train_cfg: Mapping[str, Any] | None = None,
    ) -> dict[str, Tensor]:
        """Losses of a batch, see :class:`~mmseg_arta.models.losses.ATMLoss`.

        Args:
            inputs: as in :meth:`forward`.
            batch_data_samples: samples with ``gt_sem_seg``.
            train_cfg: unused.

        Raises:
            ValueError: if labels and images differ in size.
        """
        labels = stack_labels(batch_data_samples)
        size = (labels.shape[1], labels.shape[2])
        tokens = self.tokens(inputs, size)
        check_label_size(type(self).__name__, labels, tokens.layout.image_size)
        class_logits, maps = self.forward(tokens)
        return self.criterion(class_logits, maps, labels, tokens.layout.patch_size)

    def predict(
        self,
        inputs: Inputs,
        batch_img_metas: Sequence[Mapping[str, Any]],
        test_cfg: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """Class scores ``(B, classes, H, W)`` at the size of the images.

        A score is class probability x mask probability, so slide inference may average it.

        Args:
            inputs: as in :meth:`forward`.
            batch_img_metas: the first one tells the images' size behind maps, as it tells stock
                heads; tokens know it themselves.
            test_cfg: unused.
        """
        size = None
        if not isinstance(inputs, ReducedTokens):
            name, grid = type(self).__name__, host_sizes(inputs[0])[2:]
            size = input_size(name, grid, self.patch_size, batch_img_metas)
        tokens = self.tokens(inputs, size)
        class_logits, mask_logits = self.predictions(tokens)[-1]
        masks = self.probabilities(tokens.layout.to_cells(mask_logits), tokens.layout)
        share = class_logits.softmax(-1)
        if self.classes == 'presence':
            scores = share[:, :, :1, None] * masks
        else:
            scores = torch.einsum('bqc,bqhw->bchw', share[..., :-1], masks)
        return to_channels(scores, self.out_channels)

    def probabilities(self, cells: Tensor, layout: TokenLayout) -> Tensor:
        """Mask probabilities ``(B, Q, H, W)`` from logits ``(B, Q, rows, columns)`` at patches."""
        return upsample(cells, layout).sigmoid()

    def tokens(self, inputs: Inputs, image_size: tuple[int, int] | None = None) -> ReducedTokens:
        """The tokens given, or those of maps of images of ``image_size``."""
        name = type(self).__name__
        if isinstance(inputs, MixedTokens):
            raise TypeError(f'{name} takes tokens of StepViT or maps, found MixedTokens')
        if not isinstance(inputs, ReducedTokens):
            inputs = self._tokens_of_maps(inputs, image_size)
        if len(inputs.stages) != self.stages:
            raise ValueError(
                f'{name} takes {self.stages} stages, the backbone gives {len(inputs.stages)}: '
                'check its out_indices'
            )
        width = inputs.stages[0].feats.shape[1]
        if width != self.in_channels:
            raise ValueError(
                f'{name}.in_channels is {self.in_channels}, the backbone gives {width}'
            )
        return inputs

    def _tokens_of_maps(
        self, inputs: Sequence[Tensor], image_size: tuple[int, int] | None
    ) -> ReducedTokens:
        if not isinstance(inputs, (list, tuple)) or not all(
            isinstance(maps, Tensor) and maps.ndim == 4 and maps.shape[2:] == inputs[0].shape[2:]
            for maps in inputs
        ):
            raise TypeError(
                f'{type(self).__name__} takes tokens of StepViT, or maps (B, C, rows, columns) of '
                f'one size; found {type(inputs).__name__}'
            )
        batch, _, *grid = host_sizes(inputs[0])
        whole = (grid[0] * self.patch_size, grid[1] * self.patch_size)
        layout = TokenLayout.plain(
            batch, (grid[0], grid[1]), self.patch_size, whole, inputs[0].device
        )
        if image_size is not None:
            check_cover(type(self).__name__, [grid], [self.patch_size], image_size)
            layout = layout.for_image(image_size)
        stages = tuple(
            ActiveTokens(to_rows(maps).flatten(0, 1), None, layout.lengths) for maps in inputs
        )
        return ReducedTokens(layout, stages)

    @staticmethod
    def log_areas(layout: TokenLayout) -> Tensor | None:
        """``(T,)`` logarithm of every token's patches; ``None`` if all are single patches."""
        areas = layout.areas()
        return None if areas is None else areas.float().log()


def upsample(cells: Tensor, layout: TokenLayout) -> Tensor:
    """Maps ``(B, Q, rows, columns)`` of patches at the pixels of the images."""
    rows, columns = host_sizes(cells)[2:]
    full = (rows * layout.patch_size, columns * layout.patch_size)
    maps = F.interpolate(cells, full, mode='bilinear', align_corners=False)
    return maps[:, :, : layout.image_size[0], : layout.image_size[1]]
