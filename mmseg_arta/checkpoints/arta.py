"""ARTA and DUPS: the layouts of the authors' checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .mask2former import SETTING, convert_mask2former_head
from .rules import Rule, convert_classifier, convert_parts, converts, rename_keys

# Published stage number -> our round. Stages 0 to 2 allocate, 3 to 6 refine.
_ROUNDS = [f'allocation_rounds.{j}' for j in range(3)] + [
    f'refinement_rounds.{j}' for j in range(4)
]


def _block_rules(prefix: str, target: str) -> list[Rule]:
    return [
        (
            rf'{prefix}layers\.blocks\.(\d+)\.mlp\.dwconv\.dwconv\.(\w+)',
            rf'{target}.blocks.\1.mlp.dwconv.\2',
        ),
        (rf'{prefix}layers\.blocks\.(\d+)\.gamma([12])', rf'{target}.blocks.\1.scale\2.gamma'),
        (rf'{prefix}layers\.blocks\.(\d+)\.(.+)', rf'{target}.blocks.\1.\2'),
        (rf'{prefix}token_norm\.(\w+)', rf'{target}.input_norm.\1'),
        (rf'{prefix}token_projection\.(\w+)', rf'{target}.input_proj.\1'),
        (rf'{prefix}norm_out\.(\w+)', rf'{target}.norm.\1'),
    ]


def _split_rules(prefix: str, target: str) -> list[Rule]:
    return [
        (rf'{prefix}rel_pos_emb', rf'{target}.embed.position'),
        (rf'{prefix}scale_emb', rf'{target}.embed.scale'),
        (rf'{prefix}image_patch_projection\.(\w+)', rf'{target}.embed.image_mlp.0.\1'),
        (rf'{prefix}high_res_norm1\.(\w+)', rf'{target}.embed.image_mlp.2.\1'),
        (rf'{prefix}high_res_mlp\.(.+)', rf'{target}.embed.image_mlp.3.\1'),
        (rf'{prefix}high_res_norm2\.(\w+)', rf'{target}.embed.image_mlp.4.\1'),
    ]


def _deep_split_rules(prefix: str, target: str) -> list[Rule]:
    """As :func:`_split_rules`, with the image MLP of the ImageNet weights."""
    layer = rf'{prefix}high_res_mlp\.layers\.'
    mlp = f'{target}.embed.image_mlp'
    rules = [
        (rf'{prefix}image_feat_importance', rf'{target}.embed.image_weight'),
        (rf'{prefix}old_feat_importance', rf'{target}.embed.parent_weight'),
    ]
    for number in range(3):
        # Linear, GELU, LayerNorm, three times.
        rules.append((layer + rf'{number}\.linear\.(\w+)', rf'{mlp}.3.{3 * number}.\1'))
        rules.append((layer + rf'{number}\.norm\.(\w+)', rf'{mlp}.3.{3 * number + 2}.\1'))
    return rules + [rule for rule in _split_rules(prefix, target) if 'high_res_mlp' not in rule[0]]


def arta_backbone_rules(deep: bool = False) -> list[Rule]:
    """Rules from the authors' keys to those of :class:`~mmseg_arta.models.backbones.ARTA`.

    Args:
        deep: of the ImageNet weights, see :func:`convert_arta_backbone`.
    """
    stem = r'backbones\.0\.patch_embed\.'
    rules: list[Rule] = [
        (stem + r'conv_layers\.(\d)\.conv\.(\w+)', r'patch_embed.convs.\1.0.\2'),
        (stem + r'conv_layers\.(\d)\.g_norm\.(\w+)', r'patch_embed.convs.\1.2.\2'),
        (stem + r'out_norm\.(\w+)', r'patch_embed.norm.\1'),
    ]
    for stage, target in enumerate(_ROUNDS):
        prefix = rf'backbones\.{stage}\.'
        rules += _block_rules(prefix, target)
        if 1 <= stage <= 3:
            split = _deep_split_rules if deep else _split_rules
            rules += split(prefix, f'allocators.{stage - 1}')
    # Linear, GELU, LayerNorm twice, then the last Linear.
    score = r'upsamplers\.(\d)\.layers\.'
    for layer in range(3):
        rules.append(
            (score + rf'{layer}\.linear\.(\w+)', rf'allocators.\1.score.layers.{3 * layer}.\2')
        )
        rules.append(
            (score + rf'{layer}\.norm\.(\w+)', rf'allocators.\1.score.layers.{3 * layer + 2}.\2')
        )
    return rules


def convert_arta_backbone(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the authors' backbone in our layout.

    Segmentation weights fit ``image_hidden='pixels'``. The ImageNet weights have another image
    MLP, and no score predictors; they fit ``image_hidden='deep'``.

    Args:
        state_dict: keys ``backbones.*`` and ``upsamplers.*``, without a prefix.

    Raises:
        ValueError: naming the keys that do not belong to this layout.
    """
    deep = any(key.endswith('.image_feat_importance') for key in state_dict)
    converted = rename_keys(state_dict, arta_backbone_rules(deep))
    for key, value in converted.items():
        if key.endswith(('embed.position', 'embed.scale')):
            # Published with leading broadcast dimensions: (1, 4, C) and (1, 1, C).
            converted[key] = value.flatten(0, -2).squeeze(0) if key.endswith('scale') else value[0]
    return converted


def convert_arta_segmentor(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the authors' ARTA or DUPS model in the layout of an ``EncoderDecoder``.

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
            'backbone.': ('backbone.', convert_arta_backbone),
            'sem_seg_head.': ('decode_head.', convert_mask2former_head),
        },
    )


@converts('arta', 'dups')
def convert_arta(state_dict: Mapping[str, Tensor], image_mlp: str = 'keep') -> dict[str, Tensor]:
    """Weights of any of the authors' checkpoints, whichever layout its keys have.

    A segmentation model becomes an ``EncoderDecoder`` with ``SparseMask2FormerHead``; an
    ImageNet model mmpretrain's ``ImageClassifier``; a backbone alone the ``backbone`` of either.

    Args:
        state_dict: with the prefixes of a segmentation model (``backbone.``, ``sem_seg_head.``)
            or without any.
        image_mlp: 'keep', or 'drop' to leave the image MLPs of the allocators out: those of
            the ImageNet weights do not fit the segmentation model, which trains its own.

    Raises:
        ValueError: naming the keys that do not belong to these layouts.
    """
    if image_mlp not in ('keep', 'drop'):
        raise ValueError(f"image_mlp must be 'keep' or 'drop', found {image_mlp!r}")
    if any(key.startswith(('backbone.', 'sem_seg_head.')) for key in state_dict):
        converted = convert_arta_segmentor(state_dict)
    else:
        converted = convert_classifier(state_dict, convert_arta_backbone)
    if image_mlp == 'drop':
        parts = ('.embed.image_mlp.', '.embed.image_weight', '.embed.parent_weight')
        converted = {
            key: value for key, value in converted.items() if not any(part in key for part in parts)
        }
    return converted
