"""Options of stock heads on heads that have others: errors say what to do instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LEAVE_OUT = 'leave it out'
_FIXED = 'its layers are those of the paper: leave it out'
#: What to do instead of an option of ``BaseDecodeHead``, or of stock heads with queries.
_INSTEAD = {
    'act_cfg': _FIXED,
    'channels': 'it has no layers of its own: leave it out',
    'concat_input': _FIXED,
    'conv_cfg': _FIXED,
    'dropout_ratio': 'it has no dropout: leave it out',
    'in_channels': 'it reads the channels off what it gets: leave it out',
    'in_index': 'it takes all that the backbone or the neck hands out: choose with their options '
    'out_indices or out_stages',
    'input_transform': 'it takes all that the backbone or the neck hands out: leave it out',
    'kernel_size': _FIXED,
    'loss_decode': _LEAVE_OUT,
    'norm_cfg': _FIXED,
    'num_convs': _FIXED,
    'sampler': 'there is no sampling of pixels: leave it out',
    'threshold': 'one channel is compared with the score where the class begins: leave it out',
    # Of stock Mask2Former and MaskFormer.
    'enforce_decoder_input_project': _FIXED,
    'feat_channels': _LEAVE_OUT,
    'loss_cls': _LEAVE_OUT,
    'loss_dice': _LEAVE_OUT,
    'loss_mask': _LEAVE_OUT,
    'num_stuff_classes': 'set num_classes',
    'num_things_classes': 'set num_classes',
    'num_transformer_feat_level': 'it is the number of in_channels but one: leave it out',
    'positional_encoding': _FIXED,
    'strides': 'set patch_sizes',
    'train_cfg': 'matching is part of the head: leave it out',
}


def refuse_stock_options(head: object, given: Mapping[str, Any], **instead: str) -> None:
    """Options that a constructor does not have are an error.

    Args:
        head: whose they are.
        given: the options, by name.
        instead: what to do about some of them with this head.

    Raises:
        TypeError: for the first of them; one that stock heads have says what to do instead.
    """
    for option in given:
        name = type(head).__name__
        hint = instead.get(option, _INSTEAD.get(option))
        if hint is None:
            raise TypeError(f'{name} got an unexpected keyword argument {option!r}')
        raise TypeError(
            f'{name} has no option {option!r} of stock heads: {hint}. A config that puts this head '
            'in the place of an inherited one says _delete_=True'
        )
