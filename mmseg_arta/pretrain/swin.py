"""AutoFocusFormer's Swin baseline as mmpretrain's classifiers take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..models import backbones


class AFFSwin(backbones.AFFSwin):
    """Swin in the sizes of AutoFocusFormer with its last map alone (Swin-Mini of AFF table 2).

    Its weights are those of the segmentation backbone without the norms of the other stages.

    Args:
        arch: as of :class:`~mmseg_arta.models.AFFSwin`.
        out_stages: stages whose maps are handed out, 0 the finest, ascending.
        options: all others of :class:`~mmseg_arta.models.AFFSwin`.
    """

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'mini',
        out_stages: Sequence[int] = (3,),
        **options: Any,
    ) -> None:
        super().__init__(arch, out_stages=out_stages, **options)
