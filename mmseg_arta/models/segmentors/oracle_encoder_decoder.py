"""A segmentor that shows its backbone the true class boundaries in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmseg.registry import MODELS
from torch import Tensor

from ...ops import boundary_map, patch_share
from ...option_checks import MOST_WHOLE, check_flag, check_whole
from ..decode_heads.data_samples import stack_labels
from .batched_slide import BatchedSlideEncoderDecoder

# Patch sizes whose tokens the three allocation rounds decide about.
_PATCH_SIZES = (32, 16, 8)


@MODELS.register_module()
class OracleEncoderDecoder(BatchedSlideEncoderDecoder):
    """``EncoderDecoder`` for backbones with ``OracleAllocation`` (ARTA 4.3.3, DUPS 5).

    In training the backbone is called with ``boundary_scores``, the share of class-boundary
    pixels in every patch; at inference without, so that predicted scores decide.

    Args:
        ignore_index: label of ignored pixels; they make no boundary.
        ignore_as_class: see :func:`mmseg_arta.ops.boundary_map`; as in ``BoundaryScoreHead``.
        kwargs: arguments of the stock ``EncoderDecoder``.
    """

    def __init__(
        self, *, ignore_index: int = 255, ignore_as_class: bool = False, **kwargs: Any
    ) -> None:
        check_whole(self, -MOST_WHOLE, ignore_index=ignore_index)
        check_flag(self, ignore_as_class=ignore_as_class)
        super().__init__(**kwargs)
        self.ignore_index = ignore_index
        self.ignore_as_class = ignore_as_class
        self._boundary_scores: list[Tensor] | None = None

    def loss(self, inputs: Tensor, data_samples: Sequence[Any]) -> dict[str, Tensor]:
        """The stock losses, of tokens that ground truth may have chosen.

        Args:
            inputs: ``(B, 3, H, W)`` images.
            data_samples: samples with ``gt_sem_seg`` of the images' size.
        """
        labels = stack_labels(data_samples)
        edges = boundary_map(labels, self.ignore_index, self.ignore_as_class)
        self._boundary_scores = [patch_share(edges, size) for size in _PATCH_SIZES]
        try:
            return super().loss(inputs, data_samples)
        finally:
            self._boundary_scores = None

    def extract_feat(self, inputs: Tensor) -> Any:
        """What the decode head gets; with true boundaries inside of :meth:`loss`."""
        if self._boundary_scores is None:
            return super().extract_feat(inputs)
        x = self.backbone(inputs, boundary_scores=self._boundary_scores)
        return self.neck(x) if self.with_neck else x
