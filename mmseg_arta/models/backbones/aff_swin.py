"""Swin transformer in the sizes of AutoFocusFormer, to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..layers import StridedPatchEmbed, SwinBlock
from .aff_arch import resolve_aff_arch

_STAGES = 4


class PatchMerging(nn.Module):
    """Joins 2x2 tokens of a grid into one of ``out`` channels."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.proj = nn.Linear(4 * dim, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, H, W, C)`` to ``(B, ceil(H / 2), ceil(W / 2), out)``."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        parts = [x[:, dy::2, dx::2] for dx in (0, 1) for dy in (0, 1)]
        return self.proj(self.norm(torch.cat(parts, -1)))


@MODELS.register_module()
class AFFSwin(BaseModule):
    """The Swin baseline of AutoFocusFormer: its architecture configuration and patch embedding.

    Shifted windows of 7x7 tokens and patch merging on regular grids, with the widths, depths and
    patch embedding of an AFF model of the same name (Swin-Mini of AFF tables 2 and 3).

    Args:
        arch: 'mini', 'tiny', 'small', 'base', or a dict with the fields of
            :class:`~mmseg_arta.models.backbones.aff_arch.AFFArch`.
        window_size: side of a window in tokens.
        drop_path_rate: largest stochastic depth probability; it grows linearly over all blocks.
        init_cfg: as in every mmengine module, e.g. ``dict(type='Pretrained', ...)``.

    Raises:
        ValueError: for an unknown ``arch``.
    """

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'mini',
        window_size: int = 7,
        drop_path_rate: float = 0.0,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.arch = resolve_aff_arch(arch)
        dims, depths = self.arch.dims, self.arch.depths
        self.out_channels = tuple(dims)
        total = sum(depths)
        rates = [drop_path_rate * i / max(total - 1, 1) for i in range(total)]
        self.patch_embed = StridedPatchEmbed(dims[0])
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
            for stage in range(_STAGES)
        )
        self.merges = nn.ModuleList(
            PatchMerging(dims[stage], dims[stage + 1]) for stage in range(_STAGES - 1)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for dim in dims)

    def init_weights(self) -> None:
        """Linear layers: truncated normal of std 0.02; convolutions as PyTorch starts them."""
        if self.init_cfg:
            super().init_weights()
            return
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self._is_init = True

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Encode a batch of images.

        Args:
            image: ``(B, 3, H, W)`` normalised pixels of any size; padded with zeros right and
                below to multiples of 4.

        Returns:
            Four maps, finest first, of strides 4, 8, 16 and 32 with ``out_channels``.
        """
        image = F.pad(image, (0, -image.shape[3] % 4, 0, -image.shape[2] % 4))
        x = self.patch_embed(image)
        maps = []
        for stage, blocks in enumerate(self.stages):
            if stage:
                x = self.merges[stage - 1](x)
            grid = (x.shape[1], x.shape[2])
            rows = x.flatten(1, 2)
            for block in blocks:
                rows = block(rows, grid)
            x = rows.unflatten(1, grid)
            maps.append(self.norms[stage](x).permute(0, 3, 1, 2))
        return tuple(maps)
