"""Swin transformer in the sizes of AutoFocusFormer, to compare with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...option_checks import MOST_CHANNELS, check_ascending, check_init_cfg, check_rate, check_whole
from ...structures import host_sizes
from ..layers import SwinBlock
from .aff import AFF_ARCHS, StridedPatchEmbed, init_linear_layers
from .aff_downsampling import PatchMerging
from .arch import checked_images, resolve_arch
from .pretrained import is_pretrained, load_pretrained

_STAGES = 4


@MODELS.register_module()
class AFFSwin(BaseModule):
    """The Swin baseline of AutoFocusFormer: its architecture configuration and patch embedding.

    Shifted windows of 7x7 tokens and patch merging on regular grids, with the widths, depths and
    patch embedding of an AFF model of the same name (Swin-Mini of AFF tables 2 and 3).

    Args:
        arch: 'mini', 'tiny', 'small', 'base', or a dict with the fields of
            :class:`~mmseg_arta.models.backbones.aff.AFFArch`.
        window_size: side of a window in tokens.
        drop_path_rate: largest stochastic depth probability; it grows linearly over all blocks.
        out_stages: stages whose maps are handed out, 0 the finest, ascending; only they have a
            norm, and stages behind the last one are left out.
        init_cfg: as in every mmengine module. ``dict(type='Pretrained', ...)`` is strict: a
            checkpoint that does not fit is an error, but for norms of stages, and stages that are
            left out.
        in_channels: channels of the images, such as 1 for depth or grey; published weights fit 3.

    Raises:
        ValueError: for an unknown ``arch`` or bad ``out_stages``.
    """

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'mini',
        window_size: int = 7,
        drop_path_rate: float = 0.0,
        out_stages: Sequence[int] = (0, 1, 2, 3),
        init_cfg: Mapping[str, Any] | None = None,
        in_channels: int = 3,
    ) -> None:
        check_init_cfg(self, init_cfg)
        check_whole(self, most=MOST_CHANNELS, in_channels=in_channels)
        # A window has a table of its pairs of places.
        check_whole(self, most=64, window_size=window_size)
        check_rate(self, drop_path_rate=drop_path_rate)
        super().__init__(init_cfg)
        self.in_channels = in_channels
        self.arch = resolve_arch(arch, AFF_ARCHS)
        dims, depths = self.arch.dims, self.arch.depths
        self.out_stages = check_ascending(self, 0, _STAGES - 1, out_stages=out_stages)
        self.out_channels = tuple(dims[stage] for stage in self.out_stages)
        total = sum(depths)
        rates = [drop_path_rate * i / max(total - 1, 1) for i in range(total)]
        self.patch_embed = StridedPatchEmbed(dims[0], in_channels)
        # Stages behind the last output would get no gradient, so they are left out.
        last = self.out_stages[-1]
        self.stages = nn.ModuleList(
            nn.ModuleList(
                SwinBlock(
                    dims[stage],
                    self.arch.num_heads[stage],
                    self.arch.mlp_ratio,
                    rates[sum(depths[:stage]) + number],
                    self.arch.layer_scale_init,
                    window_size,
                    shifted=number % 2 == 1,
                )
                for number in range(depths[stage])
            )
            for stage in range(last + 1)
        )
        self.merges = nn.ModuleList(
            PatchMerging(dims[stage], dims[stage + 1]) for stage in range(last)
        )
        self.norms = nn.ModuleList(
            nn.LayerNorm(dims[stage]) if stage in self.out_stages else nn.Identity()
            for stage in range(last + 1)
        )

    def init_weights(self) -> None:
        """Linear layers: truncated normal of std 0.02; convolutions as PyTorch starts them."""
        if is_pretrained(self.init_cfg):
            # A classifier need not have the norms of stages that it does not hand out.
            norms = (r'norms\.\d\.',)
            left_out = [
                rf'(stages\.{stage}|merges\.{stage - 1})\.'
                for stage in range(len(self.stages), _STAGES)
            ]
            load_pretrained(self, self.init_cfg, new=norms, unused=(*norms, *left_out))
        elif self.init_cfg:
            super().init_weights()
        else:
            init_linear_layers(self)
        self._is_init = True

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Encode a batch of images.

        Args:
            image: ``(B, in_channels, H, W)`` normalised pixels of any size; padded with zeros
                right and below to multiples of 4.

        Returns:
            The maps of ``out_stages``, finest first, with ``out_channels``; the stages have
            strides 4, 8, 16 and 32.

        Raises:
            ValueError: for an empty image or batch, or another number of channels.
        """
        image = checked_images('AFFSwin', image, self.in_channels, next(self.parameters()))
        image = F.pad(image, (0, -image.shape[3] % 4, 0, -image.shape[2] % 4))
        x = self.patch_embed(image)
        maps = []
        for stage, blocks in enumerate(self.stages):
            if stage:
                x = self.merges[stage - 1](x)
            height, width = host_sizes(x)[1:3]
            grid = (height, width)
            rows = x.flatten(1, 2)
            for block in blocks:
                rows = block(rows, grid)
            x = rows.unflatten(1, grid)
            if stage in self.out_stages:
                maps.append(self.norms[stage](x).permute(0, 3, 1, 2))
        return tuple(maps)
