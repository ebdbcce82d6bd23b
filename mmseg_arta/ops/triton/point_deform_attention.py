"""Point deformable attention in Triton, as PyTorch ops."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from ..cpu.point_deform_attention import _backward_flops, _forward_flops
from ..cuda.library import reverse_index

_INPUTS = (
    'Tensor value, Tensor centers, Tensor nearest, Tensor batch, Tensor location, Tensor weight, '
    'Tensor power, float floor, float eps'
)

# Queries of a program in the backward pass.
_BACKWARD_QUERIES = 8


def _sizes(value: Tensor, nearest: Tensor, weight: Tensor, floor: float, eps: float) -> tuple:
    queries, heads, levels, points = weight.shape
    _, images, rows, columns, k = nearest.shape
    values, _, dim = value.shape
    sizes = (queries, heads, dim, levels * points, points, images, rows, columns, k, values)
    return *sizes, floor, eps


@torch.library.custom_op(
    'mmseg_arta::point_deform_attention_triton', mutates_args=(), schema=f'({_INPUTS}) -> Tensor'
)
def _forward(value, centers, nearest, batch, location, weight, power, floor, eps):
    import triton

    from .launch import on_device, power_of_two
    from .row_kernels import deform_forward_kernel

    tensors = (value, centers, nearest, batch, location, weight, power)
    tensors = tuple(tensor.contiguous() for tensor in tensors)
    out = _output(value, weight)
    queries, heads = weight.shape[:2]
    if out.numel():
        with on_device(value):
            deform_forward_kernel[lambda meta: (triton.cdiv(queries, meta['BQ']), heads)](
                *tensors,
                out,
                *_sizes(value, nearest, weight, floor, eps),
                K=power_of_two(nearest.shape[4]),
                D=power_of_two(value.shape[2]),
            )
    return out


def _output(value: Tensor, weight: Tensor) -> Tensor:
    return value.new_empty((weight.shape[0], value.shape[1], value.shape[2]))


@_forward.register_fake
def _(value, centers, nearest, batch, location, weight, power, floor, eps):
    return _output(value, weight)


@torch.library.custom_op(
    'mmseg_arta::point_deform_attention_backward_triton',
    mutates_args=(),
    schema=f'(Tensor grad_out, {_INPUTS}) -> (Tensor, Tensor, Tensor, Tensor)',
)
def _backward(grad_out, value, centers, nearest, batch, location, weight, power, floor, eps):
    import triton

    from .launch import on_device, power_of_two
    from .row_kernels import deform_backward_kernel, listed_sum_kernel

    tensors = (value, centers, nearest, batch, location, weight, power, grad_out)
    *tensors, grad_out = (tensor.contiguous() for tensor in tensors)
    (values, heads, dim), k = value.shape, nearest.shape[4]
    queries, _, levels, points = weight.shape
    grad_value = value.new_zeros(value.shape)
    grad_location, grad_weight = location.new_zeros(location.shape), weight.new_zeros(weight.shape)
    grad_power = weight.new_zeros((queries, heads))
    rows = weight.new_full((*weight.shape, k), -1, dtype=torch.int64)
    shares = weight.new_zeros(rows.shape)
    if queries and heads and dim and rows.numel():
        with on_device(value):
            deform_backward_kernel[(triton.cdiv(queries, _BACKWARD_QUERIES), heads)](
                *tensors,
                *(grad_out, grad_location, grad_weight, grad_power, rows, shares),
                *_sizes(value, nearest, weight, floor, eps),
                K=power_of_two(k),
                D=power_of_two(dim),
                BQ=_BACKWARD_QUERIES,
            )
            # Without atomics: for every value and head the samples that look at it.
            head = torch.arange(heads, device=rows.device)[:, None, None, None]
            numbers = torch.where(rows < 0, -1, rows * heads + head).flatten()
            first, pairs = reverse_index(numbers, values * heads)
            each = levels * points * k
            if values:
                listed_sum_kernel[(values * heads, 1)](
                    *(grad_out, torch.div(pairs, each, rounding_mode='floor')),
                    *(shares.flatten()[pairs], first, grad_value, dim),
                    D=power_of_two(dim),
                )
    return grad_value, grad_location, grad_weight, grad_power.sum().reshape(1)


@_backward.register_fake
def _(grad_out, value, centers, nearest, batch, location, weight, power, floor, eps):
    return tuple(t.new_empty(t.shape) for t in (value, location, weight, power))


def _setup_context(ctx, inputs, output):
    *tensors, ctx.floor, ctx.eps = inputs
    ctx.save_for_backward(*tensors)


def _autograd(ctx, grad_out):
    value, location, weight, power = _backward(grad_out, *ctx.saved_tensors, ctx.floor, ctx.eps)
    return value, None, None, None, location, weight, power, None, None


_forward.register_autograd(_autograd, setup_context=_setup_context)
register_flop_formula(torch.ops.mmseg_arta.point_deform_attention_triton)(_forward_flops)
register_flop_formula(torch.ops.mmseg_arta.point_deform_attention_backward_triton)(_backward_flops)


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
    """See :func:`mmseg_arta.ops.point_deform_attention`; places and weights in float32."""
    return _forward(
        value, centers, nearest, batch, location, weight, power, float(floor), float(eps)
    )
