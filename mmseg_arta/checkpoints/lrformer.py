"""LRFormer: the layout of the published checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .rules import Rule, convert_parts, converts, rename_keys


def _block_rules(prefix: str, target: str) -> list[Rule]:
    """``prefix`` holds one group, the block's number, which ``target`` repeats."""
    return [
        (prefix + r'layer_scale_([12])', target + r'.scale\2.gamma'),
        # Published as sequences of one layer in the backbone, as layers in the head.
        (prefix + r'attn\.(q|kv)(?:\.0)?\.(weight|bias)', target + r'.attn.\2.\3'),
        (prefix + r'mlp\.conv\.(\w+)', target + r'.mlp.dwconv.\2'),
        (prefix + r'(attn\.(?:proj|norm)\.\w+)', target + r'.\2'),
        (prefix + r'(mlp\.fc[12]\.\w+)', target + r'.\2'),
        (prefix + r'((?:pre_norm|cpe|norm1|norm2)\.\w+)', target + r'.\2'),
    ]


def lrformer_backbone_rules() -> list[Rule]:
    """Rules from published keys to those of :class:`~mmseg_arta.models.backbones.LRFormer`."""
    rules: list[Rule] = [(r'patch_embed1\.conv1\.(\d+\.\w+)', r'stages.0.embed.convs.\1')]
    for stage in range(4):
        number, target = stage + 1, f'stages.{stage}'
        rules += [
            (rf'patch_embed{number}\.((?:proj|norm)\.\w+)', rf'{target}.embed.\1'),
            (rf'd_convs{number}\.(\d\.\w+)', rf'{target}.pool_convs.\1'),
            *_block_rules(rf'block{number}\.(\d+)\.', rf'{target}.blocks.\1'),
        ]
    return rules


def lr_head_rules() -> list[Rule]:
    """Rules from published keys to those of :class:`~mmseg_arta.models.decode_heads.LRHead`."""
    return [
        (r'(conv_seg\.\w+)', r'\1'),
        (r'(squeeze[12]\.(?:conv|bn)\.\w+)', r'\1'),
        *_block_rules(r'fuse_block([12])\.', r'block\1'),
    ]


def convert_lrformer_backbone(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published weights of the backbone in our layout.

    Args:
        state_dict: keys without a prefix.

    Raises:
        ValueError: naming the keys that do not belong to this layout.
    """
    return rename_keys(state_dict, lrformer_backbone_rules())


def convert_lr_head(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published weights of the decoder in our layout.

    Args:
        state_dict: keys without a prefix.

    Raises:
        ValueError: naming the keys that do not belong to this layout.
    """
    converted = rename_keys(state_dict, lr_head_rules())
    return {
        # Published as a 1x1 convolution.
        key: value.flatten(1) if key.endswith('attn.q.weight') else value
        for key, value in converted.items()
    }


@converts('lrformer')
def convert_lrformer(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published segmentor in the layout of an ``EncoderDecoder``, or a backbone alone.

    Args:
        state_dict: keys ``backbone.*`` and ``decode_head.*``; or a backbone's keys without a
            prefix, as after pre-training. A classifier ``head.*`` of the latter is left out.

    Returns:
        keys ``backbone.*`` and ``decode_head.*``, whichever are there.

    Raises:
        ValueError: naming the keys that do not belong to this layout.
    """
    parts = {
        'backbone.': ('backbone.', convert_lrformer_backbone),
        'decode_head.': ('decode_head.', convert_lr_head),
    }
    if not any(key.startswith(tuple(parts)) for key in state_dict):
        state_dict = {
            f'backbone.{key}': value
            for key, value in state_dict.items()
            if not key.startswith('head.')
        }
    if not state_dict:
        raise ValueError('the checkpoint does not have the expected layout: 0 keys of a backbone')
    return convert_parts(state_dict, parts)
