"""Cluster attention as PyTorch ops."""

from __future__ import annotations

from torch import Tensor

from ..cpu import cluster_attention as cpu
from ..cuda import cluster_attention as cuda
from ..native.problems import wide_type
from ..triton import cluster_attention as triton
from .define import define, differentiate, empty_like

_BACKENDS = {'cpu': cpu, 'cuda': cuda, 'triton': triton}

_INPUTS = (
    'Tensor q, Tensor kv, Tensor bias_weight, Tensor bias_bias, Tensor blank_k, '
    'Tensor blank_v, Tensor xy, Tensor start, Tensor neighbors, int cluster_size, '
    'float blank_clamp'
)


def _results(q: Tensor, *_: Tensor | float) -> tuple[Tensor, Tensor]:
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
    {name: backend.forward for name, backend in _BACKENDS.items()},
    _forward_flops,
)
backward = define(
    'cluster_attention_backward',
    f'Tensor grad_out, Tensor out, Tensor lse, {_INPUTS}',
    '(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)',
    lambda grad_out, out, lse, *inputs: empty_like(*inputs[:6]),
    {name: backend.backward for name, backend in _BACKENDS.items()},
    _backward_flops,
)
differentiate(forward, backward, tensors=9, wanted=range(6), keep=True)
