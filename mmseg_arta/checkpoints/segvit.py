"""SegViT, DToP and CTS: the layouts of the authors' checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .rules import Rule, convert_parts, converts, rename_keys

# A buffer of the published loss; a setting, not a weight.
_SETTING = 'loss_decode.criterion.empty_weight'
# More than any published head has.
_STAGES = 9


def _layer_rules(prefix: str, target: str) -> list[Rule]:
    """A published decoder layer, below a prefix whose only group is the layer's number."""
    return [
        (rf'{prefix}self_attn\.in_proj_(\w+)', rf'{target}.self_attn.qkv.\2'),
        (rf'{prefix}self_attn\.out_proj\.(\w+)', rf'{target}.self_attn.proj.\2'),
        (rf'{prefix}multihead_attn\.(q|k|v|proj)\.(\w+)', rf'{target}.atm.\2.\3'),
        (rf'{prefix}linear([12])\.(\w+)', rf'{target}.fc\2.\3'),
        (rf'{prefix}norm([123])\.(\w+)', rf'{target}.norm\2.\3'),
    ]


def _stage_rules() -> list[Rule]:
    """Input projections; published stages count from 1, ours from 0."""
    rules: list[Rule] = []
    for stage in range(_STAGES):
        rules += [
            (rf'input_proj_{stage + 1}\.(\w+)', rf'input_proj.{stage}.0.\1'),
            (rf'proj_norm_{stage + 1}\.(\w+)', rf'input_proj.{stage}.1.\1'),
        ]
    return rules


def _weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without settings."""
    return {key: value for key, value in state_dict.items() if not key.endswith(_SETTING)}


def convert_atm_head(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the published ``ATMHead`` (both versions) in our layout.

    Args:
        state_dict: keys without a prefix.

    Raises:
        ValueError: naming the keys that do not belong to this layout.
    """
    rules = [
        *_stage_rules(),
        (r'q\.weight', 'queries.weight'),
        (r'class_embed\.(\w+)', r'class_embed.\1'),
    ]
    for stage in range(_STAGES):
        prefix = rf'decoder_{stage + 1}\.layers\.(\d+)\.'
        rules += _layer_rules(prefix, rf'decoders.{stage}.layers.\1')
    return rename_keys(_weights(state_dict), rules)


def convert_shrunk_head(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the published ``TPNATMHead`` in the layout of ``ShrunkATMHead``.

    Args:
        state_dict: keys without a prefix.

    Raises:
        ValueError: naming the keys that do not belong to this layout.
    """
    split: dict[str, Tensor] = {}
    for key, value in _weights(state_dict).items():
        if '.multihead_attn.in_proj_' in key and not key.startswith('atm.'):
            # One matrix for queries, keys and values; ours are two.
            stem, kind = key.split('in_proj_')
            dim = value.shape[0] // 3
            split[f'{stem}q.{kind}'], split[f'{stem}kv.{kind}'] = value[:dim], value[dim:]
        else:
            split[key] = value
    rules = [
        *_stage_rules(),
        (r'q\.weight', 'token_queries.weight'),
        *_layer_rules(r'atm\.decoder_1\.layers\.(\d+)\.', r'decoder.layers.\1'),
        (r'atm\.q\.weight', 'queries.weight'),
        (r'atm\.class_embed\.(\w+)', r'class_embed.\1'),
    ]
    for stage in range(_STAGES):
        prefix = rf'decoder_{stage + 1}\.layers\.(\d+)\.'
        target = rf'token_decoders.{stage}.layers.\1'
        rules += [
            (prefix + r'multihead_attn\.(q|kv)\.(\w+)', target + r'.cross_attn.\2.\3'),
            (prefix + r'multihead_attn\.out_proj\.(\w+)', target + r'.cross_attn.proj.\2'),
            *(rule for rule in _layer_rules(prefix, target) if 'multihead' not in rule[0]),
        ]
    return rename_keys(split, rules)


def convert_prune_head(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of DToP's published ``PruneHead`` in the layout of ``ATMTokenClassifier``.

    Args:
        state_dict: keys without a prefix.

    Raises:
        ValueError: naming the keys that do not belong to this layout.
    """
    rules = [
        (r'input_proj\.(\w+)', r'input_proj.0.\1'),
        (r'proj_norm\.(\w+)', r'input_proj.1.\1'),
        *_layer_rules(r'decoder\.layers\.(\d+)\.', r'decoder.layers.\1'),
        (r'q\.weight', 'queries.weight'),
        (r'class_embed\.(\w+)', r'class_embed.\1'),
    ]
    return rename_keys(_weights(state_dict), rules)


def _backbone(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the class token and its position."""
    converted = {key: value for key, value in state_dict.items() if key != 'cls_token'}
    if 'pos_embed' in converted:
        converted['pos_embed'] = converted['pos_embed'][:, 1:]
    return converted


def _decode_head(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whichever of the published heads it is."""
    if any(key.startswith('atm.') for key in state_dict):
        return convert_shrunk_head(state_dict)
    if 'input_proj.weight' in state_dict:
        head = convert_prune_head(state_dict)
        return {f'classifier.{key}': value for key, value in head.items()}
    return convert_atm_head(state_dict)


def _halting_heads(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Numbered ones."""
    numbers = sorted({key.split('.')[0] for key in state_dict})
    return convert_parts(state_dict, {f'{n}.': (f'{n}.', convert_prune_head) for n in numbers})


@converts('dtop', 'segvit')
def convert_segvit(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published SegViT or DToP segmentor in the layout of our configs.

    The backbone keeps its names, without the class token that the published models drop before
    the first block, and without its position. DToP's auxiliary heads go into the backbone, which
    halts by them.

    Args:
        state_dict: keys ``backbone.*``, ``decode_head.*`` and, for DToP, ``auxiliary_head.*``.

    Raises:
        ValueError: naming the keys that do not belong to this layout.
    """
    return convert_parts(
        state_dict,
        {
            'backbone.': ('backbone.', _backbone),
            'decode_head.': ('decode_head.', _decode_head),
            'auxiliary_head.': ('backbone.halting.heads.', _halting_heads),
        },
    )


@converts('cts')
def convert_cts_policy(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published CTS policy network in the layout of ``GroupPolicyNet`` for 2x2 groups.

    Args:
        state_dict: keys ``backbone.*`` and ``head.*``.

    Raises:
        ValueError: naming the keys that do not belong to this layout.
    """
    rules = [(r'backbone\.(.+)', r'backbone.\1'), (r'head\.(\w+)', r'decode_head.convs.2.\1')]
    return rename_keys(state_dict, rules)
