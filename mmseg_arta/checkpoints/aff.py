"""AutoFocusFormer: the layouts of the authors' ImageNet and segmentation checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .mask2former import convert_mask2former_head
from .rules import Rule, rename_keys

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
    head = {key: value for key, value in state_dict.items() if key.startswith('head.')}
    rest = {key: value for key, value in state_dict.items() if key not in head}
    converted = {f'backbone.{k}': value for k, value in convert_aff_backbone(rest).items()}
    converted.update(rename_keys(head, [(r'head\.(weight|bias)', r'head.fc.\1')]))
    return converted


def convert_aff_segmentor(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the authors' Mask2Former model in the layout of an ``EncoderDecoder``.

    The authors' code divides positions by the largest one present: the head needs
    ``normalize='max'`` to compute what it computes.

    Args:
        state_dict: keys ``backbone.*``, ``sem_seg_head.*`` and ``criterion.empty_weight``; the
            last one is a setting, not a weight, and is left out.

    Raises:
        ValueError: naming the keys that do not belong to this layout.
    """
    parts: dict[str, dict[str, Tensor]] = {'backbone': {}, 'sem_seg_head': {}}
    unknown = []
    for key, value in state_dict.items():
        part, _, rest = key.partition('.')
        if part in parts:
            parts[part][rest] = value
        elif key != 'criterion.empty_weight':
            unknown.append(key)
    if unknown:
        raise ValueError(
            f'the checkpoint does not have the expected layout: {len(unknown)} keys outside '
            f'{list(parts)}: {unknown[:20]}'
        )
    backbone = convert_aff_backbone(parts['backbone'])
    head = convert_mask2former_head(parts['sem_seg_head'])
    converted = {f'backbone.{key}': value for key, value in backbone.items()}
    converted.update({f'decode_head.{key}': value for key, value in head.items()})
    return converted


def convert_aff(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of any of the authors' checkpoints, whichever layout its keys have.

    See :func:`convert_aff_classifier` and :func:`convert_aff_segmentor`.

    Raises:
        ValueError: naming the keys that do not belong to these layouts.
    """
    if any(key.startswith(('sem_seg_head.', 'backbone.')) for key in state_dict):
        return convert_aff_segmentor(state_dict)
    return convert_aff_classifier(state_dict)
