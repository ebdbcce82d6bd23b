"""ARTA: adaptive mixed-resolution token allocation."""

from __future__ import annotations

from mmseg.registry import MODELS

from .arch import ARTA_ARCHS
from .mixed_encoder import MixedResolutionEncoder


@MODELS.register_module()
class ARTA(MixedResolutionEncoder):
    """Encoder that refines every token whose score exceeds its round's threshold, per image.

    Sizes 'tiny', 'small' and 'base' are those of ARTA table 1. Arguments: see
    :class:`~mmseg_arta.models.backbones.mixed_encoder.MixedResolutionEncoder`.
    """

    archs = ARTA_ARCHS
    default_allocation = dict(type='ThresholdAllocation')
