"""Point deformable attention as PyTorch ops, and how its C++ and CUDA kernels are started."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_double, c_int, c_int64, c_void_p
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...structures.contents import within
from .. import checks
from ..custom_op import define, differentiate, empty_like
from ..library import Library, Run, cpu, cuda, fields
from ..reverse_index import reverse_index
from ..triton_backend import launcher

#: Most rows and columns of cells: single precision counts them one by one.
MOST_CELLS = 1 << 24


class Deform(ctypes.Structure):
    """``ArtaDeform``."""

    _fields_ = [
        *fields(c_void_p, 'value centers nearest batch location weight power'),
        *fields(c_int64, 'values queries heads dim levels points images rows columns k'),
        *fields(c_double, 'floor eps'),
        *fields(Run, 'run'),
    ]


class CpuDeformGrad(ctypes.Structure):
    """``ArtaDeformGrad`` of the C++ kernels."""

    _fields_ = fields(c_void_p, 'grad_out grad_value grad_location grad_weight grad_power')


class CudaDeformGrad(ctypes.Structure):
    """``ArtaDeformGrad`` of the CUDA kernels."""

    _fields_ = fields(
        c_void_p, 'grad_out grad_value grad_location grad_weight grad_power rows shares'
    )


_FORWARD = (c_int, POINTER(Deform), c_void_p)
_BOTH = (c_int, POINTER(Deform), POINTER(CudaDeformGrad))
cpu.declare(
    'point_deform_attention',
    2,
    arta_point_deform_attention=_FORWARD,
    arta_point_deform_attention_backward=(c_int, POINTER(Deform), POINTER(CpuDeformGrad)),
)
cuda.declare(
    'point_deform_attention',
    1,
    arta_point_deform_attention=_FORWARD,
    arta_point_deform_attention_backward=_BOTH,
    arta_deform_return=(*_BOTH, c_void_p, c_void_p, c_void_p),
)


def unsupported_on_cuda(value: Tensor) -> str:
    """Why the CUDA kernels do not have these sizes, or ''."""
    dim, step = value.shape[2], 16 // value.element_size()
    if dim > 16 * step or dim % step:
        return f'heads of {dim} channels, multiples of {step} up to {16 * step} on CUDA'
    return ''


def _problem(
    library: Library,
    value: Tensor,
    centers: Tensor,
    nearest: Tensor,
    batch: Tensor,
    location: Tensor,
    weight: Tensor,
    power: Tensor,
    floor: float,
    eps: float,
) -> Deform:
    values, heads, dim = value.shape
    queries, _, levels, points = weight.shape
    _, images, rows, columns, k = nearest.shape
    real, wide = library.number_types('value', value)
    at, index = library.address, torch.int64
    return Deform(
        at('value', value, real, values, heads, dim),
        at('centers', centers, wide, values, 2),
        at('nearest', nearest, index, levels, images, rows, columns, k),
        at('batch', batch, index, queries),
        at('location', location, wide, queries, heads, levels, points, 2),
        at('weight', weight, wide, queries, heads, levels, points),
        at('power', power, wide, 1),
        *(values, queries, heads, dim, levels, points, images, rows, columns, k, floor, eps),
        Run.on(value),
    )


def _forward(library: Library, out: Tensor, *inputs: Any) -> None:
    problem = _problem(library, *inputs)
    library.call('arta_point_deform_attention', ctypes.byref(problem), out.data_ptr())


def _backward_on_cpu(grads: tuple[Tensor, ...], grad_out: Tensor, *inputs: Any) -> None:
    problem = _problem(cpu, *inputs)
    value, queries = inputs[0], inputs[3].shape[0]
    gradient = CpuDeformGrad(
        cpu.address('grad_out', grad_out, value.dtype, queries, *value.shape[1:]),
        *(grad.data_ptr() for grad in grads),
    )
    cpu.call('arta_point_deform_attention_backward', ctypes.byref(problem), ctypes.byref(gradient))


def _backward_on_cuda(grads: tuple[Tensor, ...], grad_out: Tensor, *inputs: Any) -> None:
    """That of the values is summed with atomics.

    Where PyTorch is set to deterministic algorithms, it is summed by an index from values to the
    samples that look at them.
    """
    problem = _problem(cuda, *inputs)
    grad_value, grad_location, grad_weight, grad_power = grads
    values, heads, _ = grad_value.shape
    queries, k = grad_weight.shape[0], inputs[2].shape[4]
    # An empty gradient has no address, which would stand for this choice.
    ordered = torch.are_deterministic_algorithms_enabled() or values == 0
    sums = torch.zeros(grad_value.shape, dtype=torch.float32, device=grad_value.device)
    powers = grad_weight.new_empty((queries, heads))
    shape = (*grad_weight.shape, k) if ordered else (0,)
    rows = grad_weight.new_empty(shape, dtype=torch.int32)
    shares = grad_weight.new_empty(shape)
    gradient = CudaDeformGrad(
        cuda.address('grad_out', grad_out, grad_value.dtype, queries, *grad_value.shape[1:]),
        None if ordered else sums.data_ptr(),
        *(t.data_ptr() for t in (grad_location, grad_weight, powers, rows, shares)),
    )
    both = ctypes.byref(problem), ctypes.byref(gradient)
    cuda.call('arta_point_deform_attention_backward', *both)
    if ordered:
        head = torch.arange(heads, device=rows.device)[:, None, None, None]
        numbers = torch.where(rows < 0, -1, rows.long() * heads + head).flatten()
        first, pairs = reverse_index(numbers, values * heads)
        cuda.call('arta_deform_return', *both, *(t.data_ptr() for t in (first, pairs, sums)))
    grad_value.copy_(sums)
    grad_power.copy_(powers.sum())


def check(value, centers, nearest, batch, location, weight, power, floor, eps) -> None:
    """Sizes fit those of value and weight."""
    (values, heads, _), (queries, own_heads, levels, points) = value.shape, weight.shape
    if heads != own_heads:
        raise ValueError(
            f'value must be (V, {own_heads}, d) for weight {tuple(weight.shape)}, '
            f'found {tuple(value.shape)}'
        )
    for name, tensor, shape in (
        ('centers', centers, (values, 2)),
        ('nearest', nearest, (levels, *nearest.shape[1:])),
        ('batch', batch, (queries,)),
        ('location', location, (queries, heads, levels, points, 2)),
        ('power', power, (1,)),
    ):
        if tensor.shape != shape:
            raise ValueError(
                f'{name} must be {tuple(shape)} for value {tuple(value.shape)} and weight '
                f'{tuple(weight.shape)}, found {tuple(tensor.shape)}'
            )
    rows, columns = nearest.shape[2:4]
    if rows > MOST_CELLS or columns > MOST_CELLS or (queries and not (rows and columns)):
        raise ValueError(
            f'nearest must have 1 to {MOST_CELLS} rows and columns, found {tuple(nearest.shape)}'
        )
    checks.bounds(floor, eps)


def contents(value, centers, nearest, batch, *_: Any) -> None:
    """Tokens are rows of value, and images are those of nearest."""
    within(None, value.shape[0] - 1, nearest=nearest)
    within(0, nearest.shape[1] - 1, batch=batch)


def _check_backward(grad_out: Tensor, value: Tensor, *inputs: Any) -> None:
    check(value, *inputs)
    shape = (inputs[4].shape[0], *value.shape[1:])
    if tuple(grad_out.shape) != shape:
        raise ValueError(f'grad_out must be {shape}, found {tuple(grad_out.shape)}')


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
    'Tensor value, Tensor centers, Tensor nearest, Tensor batch, Tensor location, Tensor weight, '
    'Tensor power, float floor, float eps'
)
_TAKES = 'f3 f2 l5 l1 f5 f4 f1'


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
    FORWARD,
    lambda *inputs: 2 * _products(*inputs),
    takes=_TAKES,
    check=check,
    contents=contents,
)
backward = define(
    'point_deform_attention_backward',
    f'Tensor grad_out, {_INPUTS}',
    '(Tensor, Tensor, Tensor, Tensor)',
    _gradients,
    BACKWARD,
    # Gradients of weights and of values.
    lambda grad_out, *inputs: 4 * _products(*inputs),
    takes=f'f3 {_TAKES}',
    check=_check_backward,
    contents=lambda grad_out, *inputs: contents(*inputs),
)
differentiate(forward, backward, tensors=7, wanted=(0, 4, 5, 6))
