"""Decoder of LRFormer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule, build_norm_layer
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...option_checks import (
    MOST_CHANNELS,
    MOST_LAYERS,
    MOST_WEIGHT,
    check_choice,
    check_config,
    check_heads,
    check_number,
    check_ratio,
    check_whole,
    check_wholes,
    fail,
)
from ..layers import LowResolutionBlock, PooledSize, check_pooled_size, init_low_resolution_layers


@MODELS.register_module()
class LRHead(BaseDecodeHead):
    """Fuses maps of several strides by blocks with low-resolution self-attention (LRFormer 3.3).

    All maps are resized to the first one's size, joined and squeezed to ``channels``; a block
    refines them; the coarsest map is joined to the result once more, squeezed, refined by a
    second block, and classified. Goes behind any backbone that returns dense maps.

    Args:
        in_channels: channels of the maps that are used, fine to coarse.
        channels: channels of the decoder; LRFormer-T/S/B/L have 256/384/512/640.
        num_classes: classes.
        in_index: which of the backbone's maps are used, fine to coarse.
        num_heads: attention heads; must divide ``channels``.
        mlp_ratio: hidden over input channels of the feed-forward networks.
        pooled_size: short side of the pooled queries in cells: 32 as in the published code,
            whose FLOPs are those of the paper; the paper's text says 16.
        layer_scale_init: initial layer scale, 0 for none.
        norm_cfg: norm of squeezing convolutions and blocks.
        kwargs: further options of the stock ``BaseDecodeHead``; unknown ones are an error.

    Raises:
        ValueError: if ``in_channels`` and ``in_index`` do not name several maps.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        *,
        num_classes: int,
        in_index: Sequence[int] = (1, 2, 3),
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
        pooled_size: PooledSize = 32,
        layer_scale_init: float = 1e-6,
        norm_cfg: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if len(check_wholes(self, most=MOST_CHANNELS, in_channels=in_channels)) < 2:
            raise fail(self, 'in_channels', 'those of at least two maps', in_channels)
        transform = kwargs.pop('input_transform', 'multiple_select')
        check_choice(self, ('multiple_select',), input_transform=transform)
        # So many maps, counted from 0.
        check_wholes(self, 0, MOST_LAYERS, len(in_channels), in_index=in_index)
        check_whole(self, most=MOST_CHANNELS, channels=channels, num_classes=num_classes)
        check_heads(self, channels, num_heads=num_heads)
        check_ratio(self, [channels], mlp_ratio=mlp_ratio)
        check_pooled_size(self, pooled_size)
        check_number(self, 0.0, MOST_WEIGHT, layer_scale_init=layer_scale_init)
        check_config(self, ('type',), optional=True, norm_cfg=norm_cfg)
        norm_cfg = dict(type='BN', requires_grad=True) if norm_cfg is None else norm_cfg
        super().__init__(
            list(in_channels),
            channels,
            num_classes=num_classes,
            in_index=list(in_index),
            input_transform='multiple_select',
            norm_cfg=norm_cfg,
            **kwargs,
        )

        def squeeze(width: int) -> nn.Module:
            return ConvModule(width, channels, 1, norm_cfg=norm_cfg, act_cfg=self.act_cfg)

        def block() -> nn.Module:
            return LowResolutionBlock(
                channels,
                num_heads,
                mlp_ratio,
                pooled_size,
                layer_scale_init=layer_scale_init,
                norm=lambda dim: build_norm_layer(norm_cfg, dim)[1],
            )

        self.squeeze1 = squeeze(sum(in_channels))
        self.block1 = block()
        self.squeeze2 = squeeze(channels + in_channels[-1])
        self.block2 = block()

    def init_weights(self) -> None:
        """Blocks as in the backbone, all else as in every stock head."""
        for block in (self.block1, self.block2):
            init_low_resolution_layers(block)
        # Last, since it loads a checkpoint that init_cfg names.
        super().init_weights()

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits ``(B, num_classes, H, W)`` at the size of the finest map that is used.

        Args:
            inputs: maps of the backbone, finest first.
        """
        maps = self._transform_inputs(inputs)
        size = maps[0].shape[2:]
        maps = [
            resize(x, size=size, mode='bilinear', align_corners=self.align_corners)
            if x.shape[2:] != size
            else x
            for x in maps
        ]
        x = self.block1(self.squeeze1(torch.cat(maps, 1)))
        x = self.block2(self.squeeze2(torch.cat((x, maps[-1]), 1)))
        return self.cls_seg(x)
