"""LRFormer: low-resolution self-attention for semantic segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...option_checks import (
    MOST_CHANNELS,
    MOST_LAYERS,
    MOST_RATIO,
    MOST_WEIGHT,
    check_ascending,
    check_flag,
    check_init_cfg,
    check_numbers,
    check_rate,
    check_ratio,
    check_whole,
    check_wholes,
)
from ...structures import host_sizes
from ..layers import (
    LowResolutionBlock,
    MapLayerNorm,
    PooledSize,
    check_pooled_size,
    for_convolutions,
    init_low_resolution_layers,
    pool_convs,
    share_extent,
)
from .arch import check_stages, checked_images, resolve_arch
from .pretrained import is_pretrained, load_pretrained

_STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class LRFormerArch:
    """Shape of an LRFormer encoder (LRFormer table 2).

    Attributes:
        dims: channels of the four stages.
        depths: blocks of the four stages.
        num_heads: attention heads of the four stages.
        mlp_ratios: hidden over input channels of the feed-forward networks.
        layer_scale_init: initial layer scales, 0 for none.
        pre_norm_blocks: blocks of the third stage with batch normalisation of their input,
            counted from 0.
    """

    dims: tuple[int, ...]
    depths: tuple[int, ...]
    num_heads: tuple[int, ...] = (2, 4, 10, 16)
    mlp_ratios: tuple[float, ...] = (8, 8, 4, 4)
    layer_scale_init: tuple[float, ...] = (0, 0, 1e-6, 1e-6)
    pre_norm_blocks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        stages = len(_STRIDES)
        channels, blocks = (MOST_CHANNELS, stages), (MOST_LAYERS, stages)
        check_stages(self, dims=channels, depths=blocks, num_heads=channels)
        check_numbers('arch', most=MOST_RATIO, above=0.0, count=stages, mlp_ratios=self.mlp_ratios)
        for dim, ratio in zip(self.dims, self.mlp_ratios, strict=True):
            check_ratio('arch', [dim], mlp_ratios=ratio)
        scales = self.layer_scale_init
        check_numbers('arch', 0.0, MOST_WEIGHT, count=stages, layer_scale_init=scales)
        blocks, last = self.pre_norm_blocks, self.depths[2] - 1
        # Of the third stage, counted from 0; there may be none.
        check_wholes('arch', 0, last, range(last + 2), pre_norm_blocks=blocks)
        # Integers among the numbers stay integers: they are part of printed configs.
        for name in ('mlp_ratios', 'layer_scale_init', 'pre_norm_blocks'):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.dims[0] % 2:
            raise ValueError(f'arch: the first of dims must be even, found {self.dims[0]}')


LRFORMER_ARCHS = {
    'tiny': LRFormerArch((48, 96, 240, 384), (2, 2, 6, 3)),
    'small': LRFormerArch((64, 128, 320, 512), (3, 3, 12, 3)),
    'base': LRFormerArch((80, 160, 400, 512), (4, 4, 15, 8)),
    'large': LRFormerArch((96, 192, 480, 640), (4, 6, 18, 8)),
    'xlarge': LRFormerArch((128, 256, 640, 768), (4, 8, 22, 8), pre_norm_blocks=(7, 15)),
}
LRFORMER_ARCHS |= {
    short: LRFORMER_ARCHS[name]
    for short, name in dict(t='tiny', s='small', b='base', l='large', xl='xlarge').items()
}


class ConvStem(nn.Module):
    """Four 3x3 convolutions, two of them of stride 2, to cells of 4 px.

    Args:
        dim: channels of a cell; even.
        in_channels: channels of the images.
    """

    def __init__(self, dim: int, in_channels: int = 3) -> None:
        super().__init__()
        half = dim // 2
        layers: list[nn.Module] = []
        for before, after, stride in ((in_channels, half, 2), (half, half, 1), (half, dim, 2)):
            layers += [
                nn.Conv2d(before, after, 3, stride, padding=1),
                nn.BatchNorm2d(after),
                nn.GELU(),
            ]
        self.convs = nn.Sequential(*layers, nn.Conv2d(dim, dim, 3, padding=1))
        self.norm = MapLayerNorm(dim, eps=1e-6)

    def forward(self, image: Tensor) -> Tensor:
        """``(B, in_channels, H, W)`` to ``(B, dim, H / 4, W / 4)``."""
        return self.norm(self.convs(for_convolutions(image)))


class OverlappedPatchEmbed(nn.Module):
    """A 3x3 convolution of stride 2 between stages (LRFormer 3.4).

    Args:
        in_dim: channels before.
        dim: channels after.
    """

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_dim, dim, 3, stride=2, padding=1)
        self.norm = MapLayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_dim, H, W)`` to ``(B, dim, H / 2, W / 2)``."""
        return self.norm(self.proj(x))


class LRFormerStage(nn.Module):
    """Patch embedding and blocks, which share the convolutions behind their keys and values.

    Args:
        embed: patch embedding.
        dim: channels.
        blocks: blocks of the stage.
        with_cp: recompute blocks in the backward pass to save memory.
    """

    def __init__(
        self, embed: nn.Module, dim: int, blocks: Sequence[nn.Module], with_cp: bool = False
    ) -> None:
        super().__init__()
        self.embed = embed
        self.pool_convs = pool_convs(dim)
        self.blocks = nn.ModuleList(blocks)
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C_in, H, W)`` to ``(B, dim, H / s, W / s)`` of the embedding's stride s."""
        x = self.embed(x)
        for block in self.blocks:
            x = block(x, self.pool_convs, self.with_cp)
        return x


@MODELS.register_module()
class LRFormer(BaseModule):
    """Encoder with self-attention at a fixed low resolution (LRFormer 3.2).

    Four stages at strides 4, 8, 16 and 32. Attention sees a map pooled to ``pooled_size``
    whatever the size of the image; 3x3 depth-wise convolutions see the full map.

    Maps smaller than ``pooled_size`` are pooled up, as the published code and weights have it;
    the paper says that pooling is left out there (4.4), which is ``pool_up=False``.

    Args:
        arch: 'tiny', 'small', 'base', 'large', 'xlarge' (or 't', 's', 'b', 'l', 'xl'), or a
            dict with the fields of :class:`LRFormerArch`.
        pooled_size: short side of the pooled queries in cells: 16 for segmentation, 7 for
            classification at 224 px (LRFormer 3.4); or their rows and columns, to fix the size
            for images of any aspect. Weights fit any.
        pool_up: pool queries up on maps smaller than ``pooled_size``.
        drop_path_rate: largest stochastic depth probability; it grows linearly over the blocks.
        position_conv: depth-wise convolution before the attention (LRFormer table 9).
        mlp_conv: depth-wise convolution in the feed-forward networks (LRFormer table 9).
        out_indices: stages whose maps are returned, ascending; those behind the last one are left
            out.
        with_cp: recompute blocks in the backward pass to save memory.
        init_cfg: as in every mmengine module. ``dict(type='Pretrained', ...)`` is strict: a
            checkpoint that does not fit is an error, but for stages that are left out.
        in_channels: channels of the images, such as 1 for depth or grey; published weights fit 3.

    Raises:
        ValueError: for a bad arch or option.
    """

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'small',
        pooled_size: PooledSize = 16,
        pool_up: bool = True,
        drop_path_rate: float = 0.1,
        position_conv: bool = True,
        mlp_conv: bool = True,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        with_cp: bool = False,
        init_cfg: Mapping[str, Any] | None = None,
        in_channels: int = 3,
    ) -> None:
        check_init_cfg(self, init_cfg)
        check_whole(self, most=MOST_CHANNELS, in_channels=in_channels)
        check_rate(self, drop_path_rate=drop_path_rate)
        check_flag(self, pool_up=pool_up, position_conv=position_conv, mlp_conv=mlp_conv)
        check_flag(self, with_cp=with_cp)
        super().__init__(init_cfg)
        self.in_channels = in_channels
        self.arch = resolve_arch(arch, LRFORMER_ARCHS)
        last = len(_STRIDES) - 1
        self.out_indices = check_ascending(self, 0, last, out_indices=out_indices)
        check_pooled_size(self, pooled_size)
        dims, depths = self.arch.dims, self.arch.depths
        self.out_channels = tuple(dims[index] for index in self.out_indices)
        total = sum(depths)
        rates = [drop_path_rate * block / max(total - 1, 1) for block in range(total)]
        self.stages = nn.ModuleList()
        # Stages after the last output would get no gradient, so they are left out.
        for stage in range(self.out_indices[-1] + 1):
            embed = (
                OverlappedPatchEmbed(dims[stage - 1], dims[stage])
                if stage
                else ConvStem(dims[0], in_channels)
            )
            first = sum(depths[:stage])
            blocks = [
                LowResolutionBlock(
                    dims[stage],
                    self.arch.num_heads[stage],
                    self.arch.mlp_ratios[stage],
                    pooled_size,
                    rates[first + block],
                    self.arch.layer_scale_init[stage],
                    pre_norm=stage == 2 and block in self.arch.pre_norm_blocks,
                    position_conv=position_conv,
                    mlp_conv=mlp_conv,
                    pool_up=pool_up,
                )
                for block in range(depths[stage])
            ]
            self.stages.append(LRFormerStage(embed, dims[stage], blocks, with_cp))

    def init_weights(self) -> None:
        """Linear layers: truncated normal of std 0.02; convolutions: Kaiming normal, fan out.

        The fan of a depth-wise convolution is counted per group.
        """
        if is_pretrained(self.init_cfg):
            left_out = [rf'stages\.{stage}\.' for stage in range(len(self.stages), len(_STRIDES))]
            load_pretrained(self, self.init_cfg, unused=left_out)
        elif self.init_cfg:
            super().init_weights()
        else:
            init_low_resolution_layers(self)
        self._is_init = True

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Encode a batch of images.

        Args:
            image: ``(B, in_channels, H, W)`` normalised pixels of any size; padded with zeros
                right and below to multiples of 32.

        Returns:
            a map ``(B, C, ceil(H / s), ceil(W / s))`` for every output stage of stride s, whose
            cells share the image evenly.

        Raises:
            ValueError: for an empty image or batch.
        """
        image = checked_images('LRFormer', image, self.in_channels, next(self.parameters()))
        height, width = host_sizes(image)[2:]
        x = F.pad(image, (0, -width % _STRIDES[-1], 0, -height % _STRIDES[-1]))
        maps = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self.out_indices:
                stride = _STRIDES[index]
                # A head that resizes the maps would stretch the padding over the image.
                shown = x[:, :, : -(-height // stride), : -(-width // stride)]
                shown = share_extent(shown, 2, stride, height)
                maps.append(share_extent(shown, 3, stride, width))
        return tuple(maps)
