"""ARTA, DUPS and AFF: the layout of the authors' Mask2Former decoders."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .rules import Rule, convert_parts, rename_keys

#: Key of a buffer in published segmentors: a setting, not a weight.
SETTING = 'criterion.empty_weight'


def pixel_decoder_rules() -> list[Rule]:
    """Rules from the authors' point pixel decoder to
    :class:`~mmseg_arta.models.decode_heads.mask2former.PointPixelDecoder`.
    """
    layer = r'transformer\.encoder\.layers\.(\d+)\.'
    return [
        (r'input_proj\.(\d)\.(\d)\.(\w+)', r'input_proj.\1.\2.\3'),
        (r'transformer\.level_embed', 'level_embed'),
        (layer + r'self_attn\.shepard_power', r'layers.\1.attn.power'),
        (layer + r'self_attn\.sampling_offsets\.(\w+)', r'layers.\1.attn.offsets.\2'),
        (layer + r'self_attn\.attention_weights\.(\w+)', r'layers.\1.attn.weights.\2'),
        (layer + r'self_attn\.value_proj\.(\w+)', r'layers.\1.attn.value.\2'),
        (layer + r'self_attn\.output_proj\.(\w+)', r'layers.\1.attn.proj.\2'),
        (layer + r'norm([12])\.(\w+)', r'layers.\1.norm\2.\3'),
        (layer + r'linear([12])\.(\w+)', r'layers.\1.fc\2.\3'),
        (r'adapter_1\.([01])\.(\w+)', r'lateral.\1.\2'),
        (r'layer_1\.0\.linear\.(\w+)', r'point_conv.proj.\1'),
        (r'layer_1\.0\.(.+)', r'point_conv.\1'),
        (r'layer_1\.1\.(\w+)', r'out_norm.\1'),
        (r'mask_features\.(\w+)', r'mask_proj.\1'),
    ]


def transformer_decoder_rules() -> list[Rule]:
    """Rules from the authors' transformer decoder to
    :class:`~mmseg_arta.models.decode_heads.mask2former.MaskedTransformerDecoder`.
    """
    rules: list[Rule] = []
    for kind, inner, target in (
        ('cross', 'multihead_attn', 'cross_attn'),
        ('self', 'self_attn', 'self_attn'),
    ):
        layer = rf'transformer_{kind}_attention_layers\.(\d+)\.'
        rules += [
            (layer + rf'{inner}\.in_proj_(\w+)', rf'layers.\1.{target}.in_proj.\2'),
            (layer + rf'{inner}\.out_proj\.(\w+)', rf'layers.\1.{target}.out_proj.\2'),
            (layer + r'norm\.(\w+)', rf'layers.\1.{target}_norm.\2'),
        ]
    layer = r'transformer_ffn_layers\.(\d+)\.'
    return [
        *rules,
        (layer + r'linear([12])\.(\w+)', r'layers.\1.fc\2.\3'),
        (layer + r'norm\.(\w+)', r'layers.\1.ffn_norm.\2'),
        (r'decoder_norm\.(\w+)', r'norm.\1'),
        (r'(query_feat|query_embed|level_embed|class_embed)\.(\w+)', r'\1.\2'),
        (r'mask_embed\.layers\.(\d)\.(\w+)', r'mask_embed.\1.\2'),
    ]


def convert_pixel_decoder(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the authors' point pixel decoder in our layout.

    Args:
        state_dict: keys without a prefix.

    Raises:
        ValueError: naming the keys that do not belong to this layout.
    """
    return rename_keys(state_dict, pixel_decoder_rules())


def convert_transformer_decoder(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the authors' transformer decoder in our layout.

    Args:
        state_dict: keys without a prefix.

    Raises:
        ValueError: naming the keys that do not belong to this layout.
    """
    return rename_keys(state_dict, transformer_decoder_rules())


def convert_mask2former_head(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the authors' segmentation head in the layout of ``SparseMask2FormerHead``.

    The published mask positions are fixed, so the head needs ``cell_position='sine'``; for ARTA
    and DUPS also ``normalize='max'`` to compute what the authors' code computes.

    Args:
        state_dict: keys ``pixel_decoder.*`` and ``predictor.*``, without a prefix.

    Raises:
        ValueError: naming the keys that do not belong to this layout.
    """
    return convert_parts(
        state_dict,
        {
            'pixel_decoder.': ('pixel_decoder.', convert_pixel_decoder),
            'predictor.': ('transformer_decoder.', convert_transformer_decoder),
        },
    )
