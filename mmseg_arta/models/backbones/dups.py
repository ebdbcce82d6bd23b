"""DUPS: dynamic upsampling for efficient semantic segmentation."""

from __future__ import annotations

from mmseg.registry import MODELS

from .arch import DUPS_ARCHS
from .mixed_encoder import MixedResolutionEncoder


@MODELS.register_module()
class DUPS(MixedResolutionEncoder):
    """ARTA's encoder with a selection of tokens that is common to the batch.

    Sizes 'tiny', 'small' and 'base' are those of DUPS table 1: the small one has two blocks
    at 4 px, ARTA's has four. Arguments: see
    :class:`~mmseg_arta.models.backbones.mixed_encoder.MixedResolutionEncoder`.
    """

    archs = DUPS_ARCHS
    default_allocation = dict(type='BatchRatioAllocation')
