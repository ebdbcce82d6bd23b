"""Point deformable attention in CUDA, as PyTorch ops."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from ..cpu.point_deform_attention import _backward_flops, _forward_flops
from . import interface, library

_INPUTS = (
    'Tensor value, Tensor centers, Tensor nearest, Tensor batch, Tensor location, Tensor weight, '
    'Tensor power, float floor, float eps'
)


def unsupported(value: Tensor) -> str:
    """Why the kernels do not have these sizes, or ''."""
    dim, step = value.shape[2], 16 // value.element_size()
    if dim > 16 * step or dim % step:
        return f'heads of {dim} channels, multiples of {step} up to {16 * step} on CUDA'
    return ''


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
    real, single, index = library.real_type(value, 'value'), torch.float32, torch.int64

    def at(tensor: Tensor, name: str, kind: torch.dtype, *shape: int) -> int:
        return library.address(tensor, kind, shape, name)

    return interface.Deform(
        at(value, 'value', real, values, heads, dim),
        at(centers, 'centers', single, values, 2),
        at(nearest, 'nearest', index, levels, images, rows, columns, k),
        at(batch, 'batch', index, queries),
        at(location, 'location', single, queries, heads, levels, points, 2),
        at(weight, 'weight', single, queries, heads, levels, points),
        at(power, 'power', single, 1),
        *(values, queries, heads, dim, levels, points, images, rows, columns, k),
        floor,
        eps,
        library.TYPES[real],
        library.stream(value),
    )


def compute_forward(
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
    """The output ``(Q, H, d)``."""
    tensors = (value, centers, nearest, batch, location, weight, power)
    problem = _problem(*(t.contiguous() for t in tensors), floor, eps)
    out = _output(value, weight)
    library.call('arta_point_deform_attention', ctypes.byref(problem), out.data_ptr())
    return out


def _output(value: Tensor, weight: Tensor) -> Tensor:
    return value.new_empty((weight.shape[0], value.shape[1], value.shape[2]))


def compute_backward(
    grad_out: Tensor,
    value: Tensor,
    centers: Tensor,
    nearest: Tensor,
    batch: Tensor,
    location: Tensor,
    weight: Tensor,
    power: Tensor,
    floor: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of value, location, weight and power.

    That of the values is summed with atomics, or, where PyTorch is set to deterministic
    algorithms, by an index from values to the samples that look at them.
    """
    tensors = (value, centers, nearest, batch, location, weight, power)
    tensors = tuple(tensor.contiguous() for tensor in tensors)
    problem = _problem(*tensors, floor, eps)
    grad_out = grad_out.contiguous()
    values, heads, _ = value.shape
    queries, k = weight.shape[0], nearest.shape[4]
    # An empty gradient has no address, which would stand for this choice.
    ordered = torch.are_deterministic_algorithms_enabled() or values == 0
    grad_value = torch.zeros(value.shape, dtype=torch.float32, device=value.device)
    grad_location, grad_weight = location.new_empty(location.shape), weight.new_empty(weight.shape)
    grad_power = weight.new_empty((queries, heads))
    shape = (*weight.shape, k) if ordered else (0,)
    rows = weight.new_empty(shape, dtype=torch.int32)
    shares = weight.new_empty(shape)
    gradient = interface.DeformGrad(
        library.address(grad_out, value.dtype, (queries, *value.shape[1:]), 'grad_out'),
        None if ordered else grad_value.data_ptr(),
        *(t.data_ptr() for t in (grad_location, grad_weight, grad_power, rows, shares)),
    )
    library.call(
        'arta_point_deform_attention_backward', ctypes.byref(problem), ctypes.byref(gradient)
    )
    if ordered:
        head = torch.arange(heads, device=rows.device)[:, None, None, None]
        numbers = torch.where(rows < 0, -1, rows.long() * heads + head).flatten()
        first, pairs = library.reverse_index(numbers, values * heads)
        library.call(
            'arta_deform_return',
            ctypes.byref(problem),
            ctypes.byref(gradient),
            *(t.data_ptr() for t in (first, pairs, grad_value)),
        )
    return grad_value.to(value.dtype), grad_location, grad_weight, grad_power.sum().reshape(1)


_forward = torch.library.custom_op(
    'mmseg_arta::point_deform_attention_cuda',
    compute_forward,
    mutates_args=(),
    device_types='cuda',
    schema=f'({_INPUTS}) -> Tensor',
)
_backward = torch.library.custom_op(
    'mmseg_arta::point_deform_attention_backward_cuda',
    compute_backward,
    mutates_args=(),
    device_types='cuda',
    schema=f'(Tensor grad_out, {_INPUTS}) -> (Tensor, Tensor, Tensor, Tensor)',
)


@_forward.register_fake
def _(value, centers, nearest, batch, location, weight, power, floor, eps):
    return _output(value, weight)


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
register_flop_formula(torch.ops.mmseg_arta.point_deform_attention_cuda)(_forward_flops)
register_flop_formula(torch.ops.mmseg_arta.point_deform_attention_backward_cuda)(_backward_flops)


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
