"""Running a model without its arithmetic.

What a forward pass costs depends on features only through the tokens that get allocated. Where
that is decided beforehand, expensive operators need not compute: they return zeros of the right
shape. Positions, indices and counts are computed as ever, so every shape is that of a real run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from .formulas import is_custom

# Linear layers together with what follows them.
_FUSED_LINEAR = '_linear_pointwise'

# Operators without side effects that take most of a forward pass's time.
_EXPENSIVE = frozenset(
    {
        'mm',
        'bmm',
        'addmm',
        'baddbmm',
        'convolution',
        'linear',
        _FUSED_LINEAR,
        'native_layer_norm',
        'native_group_norm',
        'native_batch_norm',
        '_native_batch_norm_legit_no_training',
        '_batch_norm_no_update',
        'cudnn_batch_norm',
        '_scaled_dot_product_flash_attention_for_cpu',
        '_scaled_dot_product_flash_attention',
        '_scaled_dot_product_efficient_attention',
        '_scaled_dot_product_cudnn_attention',
        '_embedding_bag',
        '_embedding_bag_forward_only',
        'upsample_bilinear2d',
        'upsample_bicubic2d',
        'grid_sampler_2d',
        'gelu',
        'silu',
        'relu',
        'sigmoid',
        'tanh',
        '_softmax',
        'exp',
        'pow',
        'mean',
    }
)


def skipped(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any | None:
    """What an expensive operator would return, with zeros for values.

    Args:
        func: an ``OpOverload``.
        args, kwargs: its arguments.

    Returns:
        None if the operator has to run: because it is cheap, writes into its arguments, or
        results in integers, which may be positions.
    """
    operator = func._overloadpacket
    if operator.__name__ not in _EXPENSIVE and not is_custom(operator):
        return None
    if func._schema.is_mutable:
        return None
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    if not tensors or not any(tensor.is_floating_point() for tensor in tensors):
        return None
    device = tensors[0].device
    meta_args, meta_kwargs = tree_map_only(Tensor, lambda t: t.to('meta'), (args, dict(kwargs)))
    if operator.__name__ == _FUSED_LINEAR:
        # Not all of its forms tell the shape of their result.
        weight = meta_args[2 if func._overloadname == 'binary' else 1]
        result = meta_args[0].new_empty((*meta_args[0].shape[:-1], weight.shape[0]))
    else:
        result = func(*meta_args, **meta_kwargs)
    first = result[0] if isinstance(result, (tuple, list)) else result
    if not isinstance(first, Tensor) or not first.is_floating_point():
        return None
    return tree_map_only(Tensor, lambda t: _zeros(t, device), result)


def _zeros(like: Tensor, device: torch.device) -> Tensor:
    """Zeros with the strides of ``like``, so that views succeed or fail as on the real result."""
    if device.type != 'cpu' or not like.numel():
        return torch.zeros_like(like, device=device)
    span = 1 + sum((size - 1) * step for size, step in zip(like.shape, like.stride(), strict=True))
    # NumPy asks the system for zeroed memory, which takes no time until somebody reads it.
    memory = np.zeros(span * like.element_size(), dtype=np.uint8)
    return torch.from_numpy(memory).view(like.dtype).as_strided(like.shape, like.stride())
