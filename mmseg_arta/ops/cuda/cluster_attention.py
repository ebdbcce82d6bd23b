"""Cluster attention in CUDA, as PyTorch ops."""

from __future__ import annotations

import ctypes
import math

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from ...structures import Neighborhood
from ..cpu.cluster_attention import _backward_flops, _forward_flops
from . import interface, library

_INPUTS = (
    'Tensor q, Tensor kv, Tensor bias_weight, Tensor bias_bias, Tensor blank_k, '
    'Tensor blank_v, Tensor xy, Tensor start, Tensor neighbors, int cluster_size, '
    'float blank_clamp'
)

#: Most neighbour clusters and channels of a head that the kernels have.
MOST_NEIGHBORS, MOST_CHANNELS = 8, 64


def unsupported(q: Tensor, num_neighbors: int) -> str:
    """Why the kernels do not have these sizes, or ''."""
    dim, step = q.shape[2], 16 // q.element_size()
    if num_neighbors > MOST_NEIGHBORS:
        return f'{num_neighbors} neighbour clusters, at most {MOST_NEIGHBORS} on CUDA'
    if dim > MOST_CHANNELS or dim % step:
        return f'heads of {dim} channels, multiples of {step} up to {MOST_CHANNELS} on CUDA'
    return ''


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
    width = neighbors.shape[1]
    real, single = library.real_type(q, 'q'), torch.float32

    def at(tensor: Tensor, name: str, kind: torch.dtype, *shape: int) -> int:
        return library.address(tensor, kind, shape, name)

    return interface.Attention(
        at(q, 'q', real, total, heads, dim),
        at(kv, 'kv', real, total, heads, 2, dim),
        at(bias_weight, 'bias_weight', single, heads, 5),
        at(bias_bias, 'bias_bias', single, heads),
        at(blank_k, 'blank_k', single, heads, dim),
        at(blank_v, 'blank_v', single, heads, dim),
        at(xy, 'xy', torch.int32, total, 2),
        at(start, 'start', torch.int64, start.shape[0]),
        at(neighbors, 'neighbors', torch.int64, total, width),
        *(total, start.shape[0] - 1, heads, dim, width, cluster_size),
        blank_clamp,
        library.TYPES[real],
        library.stream(q),
    )


def compute_forward(
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
) -> tuple[Tensor, Tensor]:
    """Output and logarithm of the sum of exponentials."""
    tensors = (q, kv, bias_weight, bias_bias, blank_k, blank_v, xy, start, neighbors)
    problem = _problem(*(t.contiguous() for t in tensors), cluster_size, blank_clamp)
    out, lse = _forward_outputs(q)
    library.call('arta_cluster_attention', ctypes.byref(problem), out.data_ptr(), lse.data_ptr())
    return out, lse


def _forward_outputs(q: Tensor) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:2], dtype=torch.float32)


def compute_backward(
    grad_out: Tensor,
    out: Tensor,
    lse: Tensor,
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
) -> tuple[Tensor, ...]:
    """Gradients of the first six inputs; they repeat exactly."""
    tensors = (q, kv, bias_weight, bias_bias, blank_k, blank_v, xy, start, neighbors)
    tensors = tuple(tensor.contiguous() for tensor in tensors)
    problem = _problem(*tensors, cluster_size, blank_clamp)
    given = [tensor.contiguous() for tensor in (grad_out, out, lse)]
    (total, heads, dim), width = q.shape, neighbors.shape[1]
    grad_q, grad_kv = q.new_empty(q.shape), kv.new_empty(kv.shape)
    parts = library.library().arta_attention_parts()
    sums = lse.new_empty((parts, heads, 6 + 2 * dim))
    delta = lse.new_empty(lse.shape)
    first, places = library.reverse_index(tensors[8].flatten(), start.shape[0] - 1)
    attending = torch.div(places, max(width, 1), rounding_mode='floor').to(torch.int32)
    gradient = interface.AttentionGrad(
        library.address(given[0], q.dtype, tuple(q.shape), 'grad_out'),
        library.address(given[1], q.dtype, tuple(q.shape), 'out'),
        library.address(given[2], torch.float32, (total, heads), 'lse'),
        *(t.data_ptr() for t in (first, attending, delta, grad_q, grad_kv, sums)),
    )
    library.call('arta_cluster_attention_backward', ctypes.byref(problem), ctypes.byref(gradient))
    weight, bias, blank_k, blank_v = sums.sum(0).split((5, 1, dim, dim), 1)
    return grad_q, grad_kv, *(t.clone() for t in (weight, bias[:, 0], blank_k, blank_v))


def _gradients(*inputs: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in inputs)


_forward = torch.library.custom_op(
    'mmseg_arta::cluster_attention_cuda',
    compute_forward,
    mutates_args=(),
    device_types='cuda',
    schema=f'({_INPUTS}) -> (Tensor, Tensor)',
)
_backward = torch.library.custom_op(
    'mmseg_arta::cluster_attention_backward_cuda',
    compute_backward,
    mutates_args=(),
    device_types='cuda',
    schema=f'(Tensor grad_out, Tensor out, Tensor lse, {_INPUTS}) '
    '-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)',
)


@_forward.register_fake
def _(q, *rest):
    return _forward_outputs(q)


@_backward.register_fake
def _(grad_out, out, lse, *inputs):
    return _gradients(*inputs[:6])


def _setup_context(ctx, inputs, output):
    *tensors, ctx.cluster_size, ctx.blank_clamp = inputs
    ctx.save_for_backward(*output, *tensors)
    ctx.mark_non_differentiable(output[1])


def _autograd(ctx, grad_out, _):
    grads = _backward(grad_out, *ctx.saved_tensors, ctx.cluster_size, ctx.blank_clamp)
    return (*grads, None, None, None, None, None)


_forward.register_autograd(_autograd, setup_context=_setup_context)
register_flop_formula(torch.ops.mmseg_arta.cluster_attention_cuda)(_forward_flops)
register_flop_formula(torch.ops.mmseg_arta.cluster_attention_backward_cuda)(_backward_flops)


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
