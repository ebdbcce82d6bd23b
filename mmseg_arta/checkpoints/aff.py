"""AutoFocusFormer: the layouts of the authors' ImageNet and segmentation checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .mask2former import SETTING, convert_mask2former_head
from .rules import Rule, convert_classifier, convert_parts, converts, rename_keys

_LAST_STAGE = 3


def aff_backbone_rules() -> list[Rule]:
    """Rules from the authors' keys to those of
    :class:`~mmseg_arta.models.backbones.AutoFocusFormer`.
    """
    block = r'layers\.(\d)\.blocks\.(\d+)\.'
    return [
        (r'patch_embed\.proj([12])\.(\w+)', r'patch_embed.conv\1.\2'),
        (r'patch_embed\.(bn|norm)\.(\w+)', r'patch_embed.\1.\2'),
        (block + r'gamma([12])', r'stages.\1.blocks.\2.scale\3.gamma'),
        (block + r'(.+)', r'stages.\1.blocks.\2.\3'),
        (r'layers\.(\d)\.prob_net\.(\w+)', r'downsamples.\1.importance.\2'),
        (r'layers\.(\d)\.downsample\.linear\.(\w+)', r'downsamples.\1.merge.proj.\2'),
        (r'layers\.(\d)\.downsample\.(.+)', r'downsamples.\1.merge.\2'),
        (r'norm(\d)\.(\w+)', r'stages.\1.norm.\2'),
        (r'norm\.(\w+)', rf'stages.{_LAST_STAGE}.norm.\1'),
    ]


def convert_aff_backbone(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the authors' backbone in our layout.

    Args:
        state_dict: keys without a prefix, of a classifier (one norm) or of a segmentation
            backbone (a norm for each stage).

    Raises:
        ValueError: naming the keys that do not belong to this layout.
    """
    return rename_keys(state_dict, aff_backbone_rules())


def convert_aff_classifier(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the authors' ImageNet model in the layout of mmpretrain's ``ImageClassifier``.

    Args:
        state_dict: keys of the backbone and ``head.*``, without a prefix.

    Raises:
        ValueError: naming the keys that do not belong to this layout.
    """
    return convert_classifier(state_dict, convert_aff_backbone)


def convert_aff_segmentor(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the authors' Mask2Former model in the layout of an ``EncoderDecoder``.

    The authors' code divides positions by the largest one present: the head needs
    ``normalize='max'`` to compute what it computes.

    Args:
        state_dict: keys ``backbone.*``, ``sem_seg_head.*`` and ``criterion.empty_weight``, which is
            left out.

    Raises:
        ValueError: naming the keys that do not belong to this layout.
    """
    weights = {key: value for key, value in state_dict.items() if key != SETTING}
    return convert_parts(
        weights,
        {
            'backbone.': ('backbone.', convert_aff_backbone),
            'sem_seg_head.': ('decode_head.', convert_mask2former_head),
        },
    )


@converts('aff')
def convert_aff(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of any of the authors' checkpoints, whichever layout its keys have.

    See :func:`convert_aff_classifier` and :func:`convert_aff_segmentor`.

    Raises:
        ValueError: naming the keys that do not belong to these layouts.
    """
    if any(key.startswith(('sem_seg_head.', 'backbone.')) for key in state_dict):
        return convert_aff_segmentor(state_dict)
    return convert_aff_classifier(state_dict)
