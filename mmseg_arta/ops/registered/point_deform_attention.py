"""Point deformable attention as PyTorch ops."""

from __future__ import annotations

from torch import Tensor

from ..cpu import point_deform_attention as cpu
from ..cuda import point_deform_attention as cuda
from ..triton import point_deform_attention as triton
from .define import define, differentiate, empty_like

_BACKENDS = {'cpu': cpu, 'cuda': cuda, 'triton': triton}

_INPUTS = (
    'Tensor value, Tensor centers, Tensor nearest, Tensor batch, Tensor location, Tensor weight, '
    'Tensor power, float floor, float eps'
)


def _result(value, centers, nearest, batch, location, weight, *_) -> Tensor:
    return value.new_empty((weight.shape[0], value.shape[1], value.shape[2]))


def _gradients(grad_out, value, centers, nearest, batch, location, weight, power, *_):
    return empty_like(value, location, weight, power)


def _products(value, centers, nearest, batch, location, weight, *_) -> int:
    """Multiply-accumulates of the weighted sums."""
    queries, heads, levels, points = weight
    return queries * heads * levels * points * nearest[4] * value[2]


forward = define(
    'point_deform_attention',
    _INPUTS,
    'Tensor',
    _result,
    {name: backend.forward for name, backend in _BACKENDS.items()},
    lambda *inputs: 2 * _products(*inputs),
)
backward = define(
    'point_deform_attention_backward',
    f'Tensor grad_out, {_INPUTS}',
    '(Tensor, Tensor, Tensor, Tensor)',
    _gradients,
    {name: backend.backward for name, backend in _BACKENDS.items()},
    # Gradients of weights and of values.
    lambda grad_out, *inputs: 4 * _products(*inputs),
)
differentiate(forward, backward, tensors=7, wanted=(0, 4, 5, 6))
