"""AutoFocusFormer as mmpretrain's classifiers take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..models import backbones


class AutoFocusFormer(backbones.AutoFocusFormer):
    """AutoFocusFormer whose tokens come as tensors, for ``GlobalAveragePooling`` and a head.

    Its weights are those of the segmentation backbone without the norms of stages that are not
    handed out.

    Args:
        arch: as of :class:`~mmseg_arta.models.AutoFocusFormer`.
        neighborhood_size: as published for 224x224 pixels, where the last stage has 49 tokens
            and so attends globally.
        out_stages: stages whose tokens are handed out, 0 the finest, ascending.
        drop_path_rate: largest stochastic depth probability; published 0 for 'mini', 0.2 for
            'tiny' and 'base', 0.3 for 'small'.
        options: all others of :class:`~mmseg_arta.models.AutoFocusFormer`.
    """

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'tiny',
        neighborhood_size: int | Sequence[int] = (48, 48, 48, 49),
        out_stages: Sequence[int] = (3,),
        drop_path_rate: float = 0.2,
        **options: Any,
    ) -> None:
        super().__init__(
            arch,
            neighborhood_size=neighborhood_size,
            out_stages=out_stages,
            drop_path_rate=drop_path_rate,
            **options,
        )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Tokens of ``out_stages``, fine to coarse.

        Args:
            image: ``(B, in_channels, H, W)`` normalised pixels.

        Returns:
            ``(B, C, N, 1)`` each: ``N`` tokens, equally many in every image.
        """
        levels = reversed(super().forward(image).levels)
        return tuple(
            level.feats.unflatten(0, (level.batch_size, -1)).transpose(1, 2)[..., None]
            for level in levels
        )
