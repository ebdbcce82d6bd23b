"""Cluster attention in C++, as PyTorch ops."""

from __future__ import annotations

import ctypes
import math

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from ...structures import Neighborhood
from . import interface, library

_INPUTS = (
    'Tensor q, Tensor kv, Tensor bias_weight, Tensor bias_bias, Tensor blank_k, '
    'Tensor blank_v, Tensor xy, Tensor start, Tensor neighbors, int cluster_size, '
    'float blank_clamp'
)


def _problem(
    q: Tensor,
    kv: Tensor,
    bias_weight: Tensor,
    bias_bias: Tensor,
    blank_k: Tensor,
    blank_v: Tensor,
    xy: Tensor,
    start: Tensor,
    neighbors: Tensor,
    cluster_size: int,
    blank_clamp: float,
) -> interface.Attention:
    total, heads, dim = q.shape
    dtype = library.real_type(q, 'q')
    width = neighbors.shape[1]

    def at(tensor: Tensor, name: str, *shape: int, kind: torch.dtype = dtype) -> int:
        return library.address(tensor, kind, shape, name)

    return interface.Attention(
        at(q, 'q', total, heads, dim),
        at(kv, 'kv', total, heads, 2, dim),
        at(bias_weight, 'bias_weight', heads, 5),
        at(bias_bias, 'bias_bias', heads),
        at(blank_k, 'blank_k', heads, dim),
        at(blank_v, 'blank_v', heads, dim),
        at(xy, 'xy', total, 2, kind=torch.int32),
        at(start, 'start', start.shape[0], kind=torch.int64),
        at(neighbors, 'neighbors', total, width, kind=torch.int64),
        total,
        start.shape[0] - 1,
        heads,
        dim,
        width,
        cluster_size,
        blank_clamp,
        dtype == torch.float64,
        library.threads(),
    )


@torch.library.custom_op(
    'mmseg_arta::cluster_attention_cpu',
    mutates_args=(),
    device_types='cpu',
    schema=f'({_INPUTS}) -> (Tensor, Tensor)',
)
def _forward(
    q, kv, bias_weight, bias_bias, blank_k, blank_v, xy, start, neighbors, cluster_size, blank_clamp
):
    inputs = [
        tensor.contiguous()
        for tensor in (q, kv, bias_weight, bias_bias, blank_k, blank_v, xy, start, neighbors)
    ]
    problem = _problem(*inputs, cluster_size, blank_clamp)
    out, lse = _forward_outputs(q)
    library.call('arta_cluster_attention', ctypes.byref(problem), out.data_ptr(), lse.data_ptr())
    return out, lse


def _forward_outputs(q: Tensor) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:2])


@_forward.register_fake
def _(
    q, kv, bias_weight, bias_bias, blank_k, blank_v, xy, start, neighbors, cluster_size, blank_clamp
):
    return _forward_outputs(q)


@torch.library.custom_op(
    'mmseg_arta::cluster_attention_backward_cpu',
    mutates_args=(),
    device_types='cpu',
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
    inputs = [
        tensor.contiguous()
        for tensor in (q, kv, bias_weight, bias_bias, blank_k, blank_v, xy, start, neighbors)
    ]
    problem = _problem(*inputs, cluster_size, blank_clamp)
    results = [grad_out.contiguous(), out.contiguous(), lse.contiguous()]
    shapes = (tuple(q.shape), tuple(q.shape), tuple(q.shape[:2]))
    grads = _gradients(q, kv, bias_weight, bias_bias, blank_k, blank_v)
    given = [
        library.address(tensor, q.dtype, shape, name)
        for tensor, shape, name in zip(results, shapes, ('grad_out', 'out', 'lse'), strict=True)
    ]
    gradient = interface.AttentionGrad(*given, *(grad.data_ptr() for grad in grads))
    library.call('arta_cluster_attention_backward', ctypes.byref(problem), ctypes.byref(gradient))
    return grads


def _gradients(*inputs: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in inputs)


@_backward.register_fake
def _(
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
    return _gradients(q, kv, bias_weight, bias_bias, blank_k, blank_v)


def _setup_context(ctx, inputs, output):
    *tensors, ctx.cluster_size, ctx.blank_clamp = inputs
    ctx.save_for_backward(*output, *tensors)
    ctx.mark_non_differentiable(output[1])


def _autograd(ctx, grad_out, _):
    grads = _backward(grad_out, *ctx.saved_tensors, ctx.cluster_size, ctx.blank_clamp)
    return (*grads, None, None, None, None, None)


_forward.register_autograd(_autograd, setup_context=_setup_context)


def _pairs(q_shape: tuple[int, ...], neighbors_shape: tuple[int, ...], cluster_size: int) -> int:
    """Logits of all heads, as if every cluster were full."""
    return q_shape[0] * q_shape[1] * (neighbors_shape[1] * cluster_size + 1)


@register_flop_formula(torch.ops.mmseg_arta.cluster_attention_cpu)
def _forward_flops(
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
    *args,
    out_shape=None,
    **kwargs,
) -> int:
    # Logits, weighted sum, bias.
    return _pairs(q, neighbors, cluster_size) * 2 * (2 * q[2] + 5)


@register_flop_formula(torch.ops.mmseg_arta.cluster_attention_backward_cpu)
def _backward_flops(
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
    *args,
    out_shape=None,
    **kwargs,
) -> int:
    # Logits and bias again; gradients of weights, values, queries, keys, and bias.
    return _pairs(q, neighbors, cluster_size) * 2 * (5 * q[2] + 2 * 5)


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
    """See :func:`mmseg_arta.ops.cluster_attention`.

    Half-precision numbers are computed in float32; the output has the type of ``q``.
    """
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    out, _ = _forward(
        q.to(dtype),
        kv.to(dtype),
        bias_weight.to(dtype),
        bias_bias.to(dtype),
        blank_k.to(dtype),
        blank_v.to(dtype),
        neighborhood.xy,
        neighborhood.start,
        neighborhood.neighbors,
        neighborhood.cluster_size,
        math.inf if blank_clamp is None else float(blank_clamp),
    )
    return out.to(q.dtype)
