"""ARTA and DUPS: the layout of the authors' segmentation checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .rules import Rule, rename_keys

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


def arta_backbone_rules() -> list[Rule]:
    """Rules from the authors' keys to those of :class:`~mmseg_arta.models.backbones.ARTA`."""
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
            rules += _split_rules(prefix, f'allocators.{stage - 1}')
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
    """Weights of the authors' segmentation backbone in our layout.

    Args:
        state_dict: keys ``backbones.*`` and ``upsamplers.*``, without a prefix.

    Raises:
        ValueError: naming the keys that do not belong to this layout.
    """
    converted = rename_keys(state_dict, arta_backbone_rules())
    for key, value in converted.items():
        if key.endswith(('embed.position', 'embed.scale')):
            # Published with leading broadcast dimensions: (1, 4, C) and (1, 1, C).
            converted[key] = value.flatten(0, -2).squeeze(0) if key.endswith('scale') else value[0]
    return converted
