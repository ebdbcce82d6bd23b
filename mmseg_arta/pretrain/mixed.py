"""ARTA and DUPS as mmpretrain's classifiers take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from ..models import backbones
from ..models.allocation import AllocationPolicy
from ..models.backbones.mixed_encoder import MixedResolutionEncoder
from ..models.layers import to_maps


class _ClassifierEncoder(MixedResolutionEncoder):
    """Tokens allocated at random, no scores, and the coarsest level as a map.

    During pre-training the allocators predict nothing and are not there; one share of the
    tokens, the same for all rounds, is drawn at random (ARTA 4.2, DUPS appendix A). The
    classifier sees the mean of the 32 px tokens after the last refinement round, as in the
    published code.
    """

    default_allocation: ClassVar[Mapping[str, Any]] = dict(type='RandomAllocation')

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'tiny',
        allocation: Mapping[str, Any] | AllocationPolicy | None = None,
        drop_path_rate: float = 0.2,
        **options: Any,
    ) -> None:
        super().__init__(arch, allocation, drop_path_rate=drop_path_rate, scored=False, **options)
        if not self.arch.refines:
            raise ValueError(
                f'{type(self).__name__}: arch.refinement_depths must have 4 numbers for a '
                'classifier, which sees the last refinement round alone, found '
                f'{list(self.arch.refinement_depths)}'
            )

    # A classifier has no use for the tokens of the other levels.
    def forward(self, image: Tensor) -> tuple[Tensor]:  # ty: ignore[incompatible-method-override]
        """The 32 px tokens.

        Args:
            image: ``(B, in_channels, H, W)`` normalised pixels of any size; padded with zeros
                right and below to multiples of 32.

        Returns:
            one map ``(B, C, ceil(H / 32), ceil(W / 32))``, for ``GlobalAveragePooling``.
        """
        coarsest = super().forward(image).levels[0]
        rows = coarsest.feats.unflatten(0, (coarsest.batch_size, -1))
        return (to_maps(rows, coarsest.grid),)


class ARTA(_ClassifierEncoder, backbones.ARTA):
    """ARTA for pre-training on images: random allocation and no score predictors.

    Its weights are those of the segmentation backbone without the score predictors. The share
    of tokens follows ``AllocationProgressHook``; without the hook it stays at the start of the
    schedule.

    Args:
        arch: as of :class:`~mmseg_arta.models.ARTA`.
        allocation: policy that looks at no scores, or its config; 100 % falling to 50 % by
            default (DUPS appendix A).
        drop_path_rate: largest stochastic depth probability, published 0.2 for 'tiny'.
        options: all others of :class:`~mmseg_arta.models.ARTA`; the published ImageNet weights
            fit ``image_hidden='deep'``.

    Raises:
        ValueError: for a policy that needs scores, or an arch without refinement rounds.
    """


class DUPS(_ClassifierEncoder, backbones.DUPS):
    """DUPS for pre-training on images, see :class:`ARTA`: the two differ in size 'small' only."""
