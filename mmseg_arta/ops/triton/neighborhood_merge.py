"""Neighbourhood merge in Triton, as PyTorch ops."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from ..cpu.neighborhood_merge import _backward_flops, _forward_flops
from ..cuda.library import reverse_index

_MOST_CHANNELS = 128  # of a program


@torch.library.custom_op(
    'mmseg_arta::neighborhood_merge_triton',
    mutates_args=(),
    schema='(Tensor feats, Tensor rows, Tensor weights) -> Tensor',
)
def _forward(feats, rows, weights):
    import triton

    from .launch import on_device, power_of_two
    from .row_kernels import merge_forward_kernel

    feats, rows, weights = (tensor.contiguous() for tensor in (feats, rows, weights))
    out = _output(feats, weights)
    (values, dim), (places, k, sets) = feats.shape, weights.shape
    if out.numel():
        with on_device(feats):
            merge_forward_kernel[lambda meta: (places, triton.cdiv(dim, meta['BC']))](
                *(feats, rows, weights, out),
                *(values, k, sets, dim),
                M=power_of_two(sets),
            )
    return out


def _output(feats: Tensor, weights: Tensor) -> Tensor:
    return feats.new_empty((weights.shape[0], weights.shape[2], feats.shape[1]))


@_forward.register_fake
def _(feats, rows, weights):
    return _output(feats, weights)


@torch.library.custom_op(
    'mmseg_arta::neighborhood_merge_backward_triton',
    mutates_args=(),
    schema='(Tensor grad_out, Tensor feats, Tensor rows, Tensor weights) -> (Tensor, Tensor)',
)
def _backward(grad_out, feats, rows, weights):
    import triton

    from .launch import on_device, power_of_two
    from .row_kernels import listed_sum_kernel, merge_weights_kernel

    tensors = (grad_out, feats, rows, weights)
    grad_out, feats, rows, weights = (tensor.contiguous() for tensor in tensors)
    (values, dim), (places, k, sets) = feats.shape, weights.shape
    grad_feats, grad_weights = feats.new_zeros(feats.shape), weights.new_zeros(weights.shape)
    if grad_feats.numel() and grad_weights.numel():
        block = min(power_of_two(dim), _MOST_CHANNELS)
        # For every row of feats the (place, neighbour, set) triples in which it occurs.
        each = rows[..., None].expand(-1, -1, sets).flatten()
        first, triples = reverse_index(each, values)
        place = torch.div(triples, k * sets, rounding_mode='floor')
        with on_device(feats):
            merge_weights_kernel[(places * k,)](
                *(feats, rows, grad_out, grad_weights),
                *(values, k, sets, dim),
                M=power_of_two(sets),
                C=block,
            )
            listed_sum_kernel[(values, triton.cdiv(dim, block))](
                *(grad_out, place * sets + triples % sets),
                *(weights.flatten()[triples], first, grad_feats, dim),
                D=block,
            )
    return grad_feats, grad_weights


@_backward.register_fake
def _(grad_out, feats, rows, weights):
    return feats.new_empty(feats.shape), weights.new_empty(weights.shape)


def _setup_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _autograd(ctx, grad_out):
    feats, weights = _backward(grad_out, *ctx.saved_tensors)
    return feats, None, weights


_forward.register_autograd(_autograd, setup_context=_setup_context)
register_flop_formula(torch.ops.mmseg_arta.neighborhood_merge_triton)(_forward_flops)
register_flop_formula(torch.ops.mmseg_arta.neighborhood_merge_backward_triton)(_backward_flops)


def neighborhood_merge(feats: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """See :func:`mmseg_arta.ops.neighborhood_merge`; sums in float32."""
    return _forward(feats, rows, weights.to(feats.dtype))
