"""Cluster attention in Triton, as PyTorch ops."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from ...structures import Neighborhood
from ..cpu.cluster_attention import _backward_flops, _forward_flops
from ..cuda.library import reverse_index

_INPUTS = (
    'Tensor q, Tensor kv, Tensor bias_weight, Tensor bias_bias, Tensor blank_k, '
    'Tensor blank_v, Tensor xy, Tensor start, Tensor neighbors, int cluster_size, '
    'float blank_clamp'
)

# Tokens of a program in the backward pass; each program has its own sums of the parameters.
_BACKWARD_TOKENS = 16


def _sizes(q: Tensor, start: Tensor, neighbors: Tensor, cluster_size: int) -> tuple:
    total, heads, dim = q.shape
    return total, start.shape[0] - 1, heads, dim, neighbors.shape[1], cluster_size


@torch.library.custom_op(
    'mmseg_arta::cluster_attention_triton',
    mutates_args=(),
    schema=f'({_INPUTS}) -> (Tensor, Tensor)',
)
def _forward(
    q, kv, bias_weight, bias_bias, blank_k, blank_v, xy, start, neighbors, cluster_size, blank_clamp
):
    import triton

    from .attention_kernels import forward_kernel
    from .launch import on_device, power_of_two

    tensors = (q, kv, bias_weight, bias_bias, blank_k, blank_v, xy, start, neighbors)
    tensors = tuple(tensor.contiguous() for tensor in tensors)
    out, lse = _forward_outputs(q)
    total, heads, dim = q.shape
    if total and heads:
        with on_device(q):
            forward_kernel[lambda meta: (triton.cdiv(total, meta['BT']), heads)](
                *tensors,
                *(out, lse),
                *_sizes(q, start, neighbors, cluster_size),
                *(blank_clamp, dim**-0.5),
                CS=power_of_two(cluster_size),
                D=power_of_two(dim),
            )
    return out, lse


def _forward_outputs(q: Tensor) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:2], dtype=torch.float32)


@_forward.register_fake
def _(q, *rest):
    return _forward_outputs(q)


@torch.library.custom_op(
    'mmseg_arta::cluster_attention_backward_triton',
    mutates_args=(),
    schema=f'(Tensor grad_out, Tensor out, Tensor lse, {_INPUTS}) '
    '-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)',
)
def _backward(
    grad_out,
    out,
    lse,
    q,
    kv,
    bias_weight,
    bias_bias,
    blank_k,
    blank_v,
    xy,
    start,
    neighbors,
    cluster_size,
    blank_clamp,
):
    import triton

    from .attention_kernels import backward_clusters_kernel, backward_rows_kernel
    from .launch import on_device, power_of_two

    tensors = (q, kv, bias_weight, bias_bias, blank_k, blank_v, xy, start, neighbors)
    q, kv, weight, bias, blank_k, blank_v, xy, start, neighbors = (t.contiguous() for t in tensors)
    grad_out, out, lse = (tensor.contiguous() for tensor in (grad_out, out, lse))
    total, heads, dim = q.shape
    clusters, width = start.shape[0] - 1, neighbors.shape[1]
    grad_q, grad_kv = q.new_empty(q.shape), kv.new_empty(kv.shape)
    parts = triton.cdiv(total, _BACKWARD_TOKENS)
    sums = lse.new_zeros((parts, heads, 6 + 2 * dim))
    delta = lse.new_empty(lse.shape)
    blocks = dict(CS=power_of_two(cluster_size), D=power_of_two(dim))
    scale = dim**-0.5
    if total and heads:
        first, places = reverse_index(neighbors.flatten(), clusters)
        attending = torch.div(places, max(width, 1), rounding_mode='floor')
        with on_device(q):
            backward_rows_kernel[(parts, heads)](
                *(q, kv, weight, bias, blank_k, blank_v, xy, start, neighbors),
                *(grad_out, out, lse, delta, grad_q, sums),
                *_sizes(q, start, neighbors, cluster_size),
                *(blank_clamp, scale),
                **blocks,
                BT=_BACKWARD_TOKENS,
            )
            backward_clusters_kernel[(clusters, heads)](
                *(q, kv, weight, bias, xy, start),
                *(grad_out, lse, delta, first, attending, grad_kv),
                *(total, heads, dim, cluster_size, scale),
                **blocks,
            )
    weight, bias, blank_k, blank_v = sums.sum(0).split((5, 1, dim, dim), 1)
    return grad_q, grad_kv, *(t.clone() for t in (weight, bias[:, 0], blank_k, blank_v))


@_backward.register_fake
def _(grad_out, out, lse, *inputs):
    return tuple(tensor.new_empty(tensor.shape) for tensor in inputs[:6])


def _setup_context(ctx, inputs, output):
    *tensors, ctx.cluster_size, ctx.blank_clamp = inputs
    ctx.save_for_backward(*output, *tensors)
    ctx.mark_non_differentiable(output[1])


def _autograd(ctx, grad_out, _):
    grads = _backward(grad_out, *ctx.saved_tensors, ctx.cluster_size, ctx.blank_clamp)
    return (*grads, None, None, None, None, None)


_forward.register_autograd(_autograd, setup_context=_setup_context)
register_flop_formula(torch.ops.mmseg_arta.cluster_attention_triton)(_forward_flops)
register_flop_formula(torch.ops.mmseg_arta.cluster_attention_backward_triton)(_backward_flops)


def cluster_attention(
    q: Tensor,
    kv: Tensor,
    bias_weight: Tensor,
    bias_bias: Tensor,
    blank_k: Tensor,
    blank_v: Tensor,
    neighborhood: Neighborhood,
    blank_clamp: float | None,
) -> Tensor:
    """See :func:`mmseg_arta.ops.cluster_attention`; sums in float32, the output as ``q``."""
    out, _ = _forward(
        q,
        kv.to(q.dtype),
        *(tensor.float() for tensor in (bias_weight, bias_bias, blank_k, blank_v)),
        neighborhood.xy,
        neighborhood.start,
        neighborhood.neighbors,
        neighborhood.cluster_size,
        math.inf if blank_clamp is None else float(blank_clamp),
    )
    return out
