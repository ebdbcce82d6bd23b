"""Multiply-accumulates of single PyTorch operators, from their arguments and results.

The conventions are fvcore's: a multiply-accumulate of a convolution or a matrix product counts
once, a layer or group norm 5 per element, a batch norm at inference 2, bilinear resizing 4 per
result, nearest resizing 1, adaptive average pooling 1 per input element, and everything else
nothing. Attention kernels count as their two matrix products. Matrix products, convolutions and
attention are PyTorch's own formulas (``torch.utils.flop_counter.flop_registry``) where it has them;
those here are what the registry lacks. What fvcore does not know is counted beside it: weighted
sums of gathered rows, and custom operators whose formula is in the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

Formula = Callable[[Sequence[Any], Tensor], int]

_aten = torch.ops.aten
_PYTORCH = ('aten', 'mkldnn', 'prim', 'prims', 'profiler')


def _attention(args: Sequence[Any], out: Tensor) -> int:
    query, key, value = args[:3]
    return query[..., 0].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _norm(affine: int) -> Formula:
    return lambda args, out: args[0].numel() * (4 if args[affine] is None else 5)


def _batch_norm(args: Sequence[Any], out: Tensor) -> int:
    # Of all its forms the weight is the second argument, and these forms run at inference only.
    return args[0].numel() * (1 if args[1] is None else 2)


def _mean(args: Sequence[Any], out: Tensor) -> int:
    # What adaptive pooling to one cell turns into; nothing else writes its dimensions like that.
    pools = len(args) > 2 and list(args[1]) == [-1, -2] and args[2]
    return args[0].numel() if pools else 0


_FORMULAS: dict[str, Formula] = {
    'mv': lambda args, out: args[0].numel(),
    'dot': lambda args, out: args[0].numel(),
    'addmv': lambda args, out: args[1].numel(),
    'linear': lambda args, out: args[0].numel() * args[1].shape[0],
    '_scaled_dot_product_flash_attention_for_cpu': _attention,
    '_scaled_dot_product_fused_attention_overrideable': _attention,
    'native_layer_norm': _norm(2),
    'native_group_norm': _norm(1),
    'native_batch_norm': _batch_norm,
    'cudnn_batch_norm': _batch_norm,
    'miopen_batch_norm': _batch_norm,
    '_native_batch_norm_legit_no_training': _batch_norm,
    '_batch_norm_no_update': _batch_norm,
    'upsample_bilinear2d': lambda args, out: 4 * out.numel(),
    '_upsample_bilinear2d_aa': lambda args, out: 4 * out.numel(),
    'upsample_nearest2d': lambda args, out: out.numel(),
    'grid_sampler_2d': lambda args, out: 4 * out.numel(),
    '_adaptive_avg_pool2d': lambda args, out: args[0].numel(),
    'mean': _mean,
}

# Formulas by operator; versions of PyTorch differ in which of them exist.
_BY_OPERATOR: dict[Any, Formula] = {
    getattr(_aten, name): formula for name, formula in _FORMULAS.items() if hasattr(_aten, name)
}


# Custom operators that stand for operators that fvcore does count, by name.
_FUSED: dict[str, Formula] = {
    # Masks resized; the product with the classes is PyTorch's.
    'mmseg_arta.mask_probabilities': lambda args, out: 4 * out.numel(),
}

_EMBEDDING_BAGS = ('_embedding_bag', '_embedding_bag_forward_only')
_PER_SAMPLE_WEIGHTS = 6


@dataclass(frozen=True)
class CallCount:
    """Cost of one call of an operator.

    Attributes:
        macs: multiply-accumulates; None if the operator is a kernel without a formula.
        kernel: whether fvcore, and so the papers, would not have seen it.
    """

    macs: int | None
    kernel: bool = False


def count_call(
    operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any
) -> CallCount:
    """Cost of one call.

    Args:
        operator: an ``OpOverloadPacket`` such as ``torch.ops.aten.mm``.
        args, kwargs: what it was called with; of tensors only shapes are read.
        result: what it returned.
    """
    formula = _BY_OPERATOR.get(operator, _FUSED.get(str(operator)))
    if formula is not None:
        first = result[0] if isinstance(result, (tuple, list)) else result
        return CallCount(int(formula(args, first)))
    custom = is_custom(operator)
    if operator in flop_registry:
        # PyTorch's registry counts two operations per multiply-accumulate.
        return CallCount(int(flop_registry[operator](*args, **kwargs, out_val=result)) // 2, custom)
    if operator.__name__ in _EMBEDDING_BAGS:
        weights = args[_PER_SAMPLE_WEIGHTS] if len(args) > _PER_SAMPLE_WEIGHTS else None
        return CallCount(0 if weights is None else args[1].numel() * args[0].shape[1], kernel=True)
    return CallCount(None, kernel=True) if custom else CallCount(0)


def is_custom(operator: Any) -> bool:
    """Whether an operator comes from outside PyTorch."""
    return operator._qualified_op_name.split('::')[0] not in _PYTORCH
