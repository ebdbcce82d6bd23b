"""Point deformable attention in C++, as PyTorch ops."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from . import interface, library

_INPUTS = (
    'Tensor value, Tensor centers, Tensor nearest, Tensor batch, Tensor location, Tensor weight, '
    'Tensor power, float floor, float eps'
)


def _problem(
    value: Tensor,
    centers: Tensor,
    nearest: Tensor,
    batch: Tensor,
    location: Tensor,
    weight: Tensor,
    power: Tensor,
    floor: float,
    eps: float,
) -> interface.Deform:
    values, heads, dim = value.shape
    queries, _, levels, points = weight.shape
    _, images, rows, columns, k = nearest.shape
    dtype = library.real_type(value, 'value')
    index = torch.int64

    def at(tensor: Tensor, name: str, *shape: int, kind: torch.dtype = dtype) -> int:
        return library.address(tensor, kind, shape, name)

    return interface.Deform(
        at(value, 'value', values, heads, dim),
        at(centers, 'centers', values, 2),
        at(nearest, 'nearest', levels, images, rows, columns, k, kind=index),
        at(batch, 'batch', queries, kind=index),
        at(location, 'location', queries, heads, levels, points, 2),
        at(weight, 'weight', queries, heads, levels, points),
        at(power, 'power', 1),
        *(values, queries, heads, dim, levels, points, images, rows, columns, k),
        floor,
        eps,
        dtype == torch.float64,
        library.threads(),
    )


@torch.library.custom_op(
    'mmseg_arta::point_deform_attention_cpu',
    mutates_args=(),
    device_types='cpu',
    schema=f'({_INPUTS}) -> Tensor',
)
def _forward(value, centers, nearest, batch, location, weight, power, floor, eps):
    tensors = [t.contiguous() for t in (value, centers, nearest, batch, location, weight, power)]
    problem = _problem(*tensors, floor, eps)
    out = _output(value, weight)
    library.call('arta_point_deform_attention', ctypes.byref(problem), out.data_ptr())
    return out


def _output(value: Tensor, weight: Tensor) -> Tensor:
    return value.new_empty((weight.shape[0], value.shape[1], value.shape[2]))


@_forward.register_fake
def _(value, centers, nearest, batch, location, weight, power, floor, eps):
    return _output(value, weight)


@torch.library.custom_op(
    'mmseg_arta::point_deform_attention_backward_cpu',
    mutates_args=(),
    device_types='cpu',
    schema=f'(Tensor grad_out, {_INPUTS}) -> (Tensor, Tensor, Tensor, Tensor)',
)
def _backward(grad_out, value, centers, nearest, batch, location, weight, power, floor, eps):
    tensors = [t.contiguous() for t in (value, centers, nearest, batch, location, weight, power)]
    problem = _problem(*tensors, floor, eps)
    grad_out = grad_out.contiguous()
    shape = (weight.shape[0], value.shape[1], value.shape[2])
    grads = _gradients(value, location, weight, power)
    gradient = interface.DeformGrad(
        library.address(grad_out, value.dtype, shape, 'grad_out'),
        *(grad.data_ptr() for grad in grads),
    )
    library.call(
        'arta_point_deform_attention_backward', ctypes.byref(problem), ctypes.byref(gradient)
    )
    return grads


def _gradients(*inputs: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in inputs)


@_backward.register_fake
def _(grad_out, value, centers, nearest, batch, location, weight, power, floor, eps):
    return _gradients(value, location, weight, power)


def _setup_context(ctx, inputs, output):
    *tensors, ctx.floor, ctx.eps = inputs
    ctx.save_for_backward(*tensors)


def _autograd(ctx, grad_out):
    value, location, weight, power = _backward(grad_out, *ctx.saved_tensors, ctx.floor, ctx.eps)
    return value, None, None, None, location, weight, power, None, None


_forward.register_autograd(_autograd, setup_context=_setup_context)


def _products(value: tuple[int, ...], nearest: tuple[int, ...], weight: tuple[int, ...]) -> int:
    """Multiply-accumulates of the weighted sums."""
    queries, heads, levels, points = weight
    return queries * heads * levels * points * nearest[4] * value[2]


@register_flop_formula(torch.ops.mmseg_arta.point_deform_attention_cpu)
def _forward_flops(
    value, centers, nearest, batch, location, weight, *args, out_shape=None, **kwargs
) -> int:
    return 2 * _products(value, nearest, weight)


@register_flop_formula(torch.ops.mmseg_arta.point_deform_attention_backward_cpu)
def _backward_flops(
    grad_out, value, centers, nearest, batch, location, weight, *args, out_shape=None, **kwargs
) -> int:
    # Gradients of weights and of values.
    return 4 * _products(value, nearest, weight)


def point_deform_attention(
    value: Tensor,
    centers: Tensor,
    nearest: Tensor,
    batch: Tensor,
    location: Tensor,
    weight: Tensor,
    power: Tensor,
    floor: float,
    eps: float,
) -> Tensor:
    """See :func:`mmseg_arta.ops.point_deform_attention`; all numbers in float32 or float64."""
    return _forward(
        value, centers, nearest, batch, location, weight, power, float(floor), float(eps)
    )
