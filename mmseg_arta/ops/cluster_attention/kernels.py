"""Cluster attention as PyTorch ops, and how its C++ and CUDA kernels are started."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_double, c_int, c_int64, c_void_p
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...structures import MOST_CLUSTER_SIZE
from ...structures.contents import FARTHEST, one_after_the_other, within
from .. import checks
from ..custom_op import define, differentiate, empty_like
from ..library import Library, Run, cpu, cuda, fields, wide_type
from ..reverse_index import reverse_index
from ..triton_backend import launcher

#: Most neighbour clusters and channels of a head that the CUDA kernels have.
MOST_NEIGHBORS, MOST_CHANNELS = 8, 64


class Attention(ctypes.Structure):
    """``ArtaAttention``."""

    _fields_ = [
        *fields(c_void_p, 'q kv bias_weight bias_bias blank_k blank_v xy start neighbors'),
        *fields(c_int64, 'total clusters heads dim num_neighbors cluster_size'),
        *fields(c_double, 'blank_clamp'),
        *fields(Run, 'run'),
    ]


class CpuAttentionGrad(ctypes.Structure):
    """``ArtaAttentionGrad`` of the C++ kernels."""

    _fields_ = fields(
        c_void_p,
        'grad_out out lse grad_q grad_kv grad_bias_weight grad_bias_bias grad_blank_k grad_blank_v',
    )


class CudaAttentionGrad(ctypes.Structure):
    """``ArtaAttentionGrad`` of the CUDA kernels."""

    _fields_ = fields(c_void_p, 'grad_out out lse first attending delta grad_q grad_kv sums')


_FORWARD = (c_int, POINTER(Attention), c_void_p, c_void_p)
cpu.declare(
    'cluster_attention',
    2,
    arta_cluster_attention=_FORWARD,
    arta_cluster_attention_backward=(c_int, POINTER(Attention), POINTER(CpuAttentionGrad)),
)
cuda.declare(
    'cluster_attention',
    1,
    arta_attention_parts=(c_int64,),
    arta_cluster_attention=_FORWARD,
    arta_cluster_attention_backward=(c_int, POINTER(Attention), POINTER(CudaAttentionGrad)),
)


def unsupported_on_cuda(q: Tensor, num_neighbors: int) -> str:
    """Why the CUDA kernels do not have these sizes, or ''."""
    dim, step = q.shape[2], 16 // q.element_size()
    if num_neighbors > MOST_NEIGHBORS:
        return f'{num_neighbors} neighbour clusters, at most {MOST_NEIGHBORS} on CUDA'
    if dim > MOST_CHANNELS or dim % step:
        return f'heads of {dim} channels, multiples of {step} up to {MOST_CHANNELS} on CUDA'
    return ''


def _problem(
    library: Library,
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
) -> Attention:
    (total, heads, dim), width = q.shape, neighbors.shape[1]
    real, wide = library.number_types('q', q)
    at = library.address
    return Attention(
        at('q', q, real, total, heads, dim),
        at('kv', kv, real, total, heads, 2, dim),
        at('bias_weight', bias_weight, wide, heads, 5),
        at('bias_bias', bias_bias, wide, heads),
        at('blank_k', blank_k, wide, heads, dim),
        at('blank_v', blank_v, wide, heads, dim),
        at('xy', xy, torch.int32, total, 2),
        at('start', start, torch.int64, start.shape[0]),
        at('neighbors', neighbors, torch.int64, total, width),
        *(total, start.shape[0] - 1, heads, dim, width, cluster_size, blank_clamp),
        Run.on(q),
    )


def _forward(library: Library, results: tuple[Tensor, Tensor], *inputs: Any) -> None:
    problem = _problem(library, *inputs)
    addresses = (tensor.data_ptr() for tensor in results)
    library.call('arta_cluster_attention', ctypes.byref(problem), *addresses)


def _backward_on_cpu(
    grads: tuple[Tensor, ...], grad_out: Tensor, out: Tensor, lse: Tensor, *inputs: Any
) -> None:
    problem = _problem(cpu, *inputs)
    q, at = inputs[0], cpu.address
    gradient = CpuAttentionGrad(
        at('grad_out', grad_out, q.dtype, *q.shape),
        at('out', out, q.dtype, *q.shape),
        at('lse', lse, q.dtype, *q.shape[:2]),
        *(grad.data_ptr() for grad in grads),
    )
    cpu.call('arta_cluster_attention_backward', ctypes.byref(problem), ctypes.byref(gradient))


def _backward_on_cuda(
    grads: tuple[Tensor, ...], grad_out: Tensor, out: Tensor, lse: Tensor, *inputs: Any
) -> None:
    """Gradients repeat exactly."""
    problem = _problem(cuda, *inputs)
    q, start, neighbors = inputs[0], inputs[7], inputs[8]
    (total, heads, dim), width = q.shape, neighbors.shape[1]
    sums = lse.new_empty((cuda.loaded().arta_attention_parts(), heads, 6 + 2 * dim))
    delta = lse.new_empty(lse.shape)
    first, places = reverse_index(neighbors.flatten(), start.shape[0] - 1)
    attending = torch.div(places, max(width, 1), rounding_mode='floor').to(torch.int32)
    at = cuda.address
    gradient = CudaAttentionGrad(
        at('grad_out', grad_out, q.dtype, *q.shape),
        at('out', out, q.dtype, *q.shape),
        at('lse', lse, torch.float32, total, heads),
        *(t.data_ptr() for t in (first, attending, delta, *grads[:2], sums)),
    )
    cuda.call('arta_cluster_attention_backward', ctypes.byref(problem), ctypes.byref(gradient))
    write_parameter_sums(grads[2:], sums)


def write_parameter_sums(grads: tuple[Tensor, ...], sums: Tensor) -> None:
    """Gradients of bias_weight, bias_bias, blank_k and blank_v from their parts.

    Args:
        grads: to be filled.
        sums: ``(parts, H, 6 + 2 d)`` of all four side by side.
    """
    dim = grads[2].shape[1]
    for grad, part in zip(grads, sums.sum(0).split((5, 1, dim, dim), 1), strict=True):
        grad.copy_(part.view_as(grad))


FORWARD = {
    'cpu': partial(_forward, cpu),
    'cuda': partial(_forward, cuda),
    'triton': launcher(__name__, 'forward'),
}
BACKWARD = {
    'cpu': _backward_on_cpu,
    'cuda': _backward_on_cuda,
    'triton': launcher(__name__, 'backward'),
}

_INPUTS = (
    'Tensor q, Tensor kv, Tensor bias_weight, Tensor bias_bias, Tensor blank_k, '
    'Tensor blank_v, Tensor xy, Tensor start, Tensor neighbors, int cluster_size, '
    'float blank_clamp'
)
_TAKES = 'f3 f4 f2 f1 f2 f2 i2 l1 l2'


def check(q, kv, bias_weight, bias_bias, blank_k, blank_v, xy, start, neighbors, size, clamp):
    """Sizes are those of clusters of the tokens."""
    checks.size(1, MOST_CLUSTER_SIZE, cluster_size=size)
    if not start.shape[0]:
        raise ValueError('start must hold at least one row, found none')
    if not clamp >= 0:
        raise ValueError(f'blank_clamp must be at least 0, found {clamp}')
    total, heads, dim = q.shape
    if not dim:
        raise ValueError(f'q must have at least one channel, found {tuple(q.shape)}')
    if (
        kv.shape == (total, heads, 2, dim)
        and bias_weight.shape == (heads, 5)
        and bias_bias.shape == (heads,)
        and blank_k.shape == blank_v.shape == (heads, dim)
        and xy.shape == (total, 2)
        and neighbors.shape[0] == total
    ):
        return
    for name, tensor, shape in (
        ('kv', kv, (total, heads, 2, dim)),
        ('bias_weight', bias_weight, (heads, 5)),
        ('bias_bias', bias_bias, (heads,)),
        ('blank_k', blank_k, (heads, dim)),
        ('blank_v', blank_v, (heads, dim)),
        ('xy', xy, (total, 2)),
        ('neighbors', neighbors, (total, neighbors.shape[1])),
    ):
        if tensor.shape != shape:
            raise ValueError(
                f'{name} must be {shape} for q {tuple(q.shape)}, found {tuple(tensor.shape)}'
            )


def contents(q, kv, bias_weight, bias_bias, blank_k, blank_v, xy, start, neighbors, size, clamp):
    """Clusters are all tokens, each once, and neighbours are clusters."""
    one_after_the_other(start, xy.shape[0], size)
    within(None, start.shape[0] - 2, neighbors=neighbors)
    within(-FARTHEST, FARTHEST, xy=xy)


def _check_backward(grad_out: Tensor, out: Tensor, lse: Tensor, q: Tensor, *rest: Any) -> None:
    check(q, *rest)
    for name, tensor, shape in (
        ('grad_out', grad_out, q.shape),
        ('out', out, q.shape),
        ('lse', lse, q.shape[:2]),
    ):
        if tensor.shape != shape:
            raise ValueError(
                f'{name} must be {tuple(shape)} for q {tuple(q.shape)}, found {tuple(tensor.shape)}'
            )


def _results(q: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    """Output, and logarithm of the sum of exponentials of all logits ``(T, H)``."""
    return q.new_empty(q.shape), q.new_empty(q.shape[:2], dtype=wide_type(q.dtype))


def _pairs(q, kv, bias_weight, bias_bias, blank_k, blank_v, xy, start, neighbors, size, clamp):
    """Logits of all heads, as if every cluster were full."""
    return q[0] * q[1] * (neighbors[1] * size + 1)


def _forward_flops(q, *rest) -> int:
    # Logits, weighted sum, bias.
    return _pairs(q, *rest) * 2 * (2 * q[2] + 5)


def _backward_flops(grad_out, out, lse, q, *rest) -> int:
    # Logits and bias again; gradients of weights, values, queries, keys, and bias.
    return _pairs(q, *rest) * 2 * (5 * q[2] + 2 * 5)


forward = define(
    'cluster_attention',
    _INPUTS,
    '(Tensor, Tensor)',
    _results,
    FORWARD,
    _forward_flops,
    takes=_TAKES,
    check=check,
    contents=contents,
)
backward = define(
    'cluster_attention_backward',
    f'Tensor grad_out, Tensor out, Tensor lse, {_INPUTS}',
    '(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)',
    lambda grad_out, out, lse, *inputs: empty_like(*inputs[:6]),
    BACKWARD,
    _backward_flops,
    takes=f'f3 f3 f2 {_TAKES}',
    check=_check_backward,
    contents=lambda grad_out, out, lse, *inputs: contents(*inputs),
)
differentiate(forward, backward, tensors=9, wanted=range(6), keep=True)
