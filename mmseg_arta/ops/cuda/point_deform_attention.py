"""Starts the CUDA kernels of point deformable attention."""

from __future__ import annotations

import ctypes
from functools import partial

import torch
from torch import Tensor

from ..native import forward as native_forward
from ..native import problems
from ..reverse_index import reverse_index
from . import interface, library


def unsupported(value: Tensor) -> str:
    """Why the kernels do not have these sizes, or ''."""
    dim, step = value.shape[2], 16 // value.element_size()
    if dim > 16 * step or dim % step:
        return f'heads of {dim} channels, multiples of {step} up to {16 * step} on CUDA'
    return ''


forward = partial(native_forward.point_deform_attention, library)


def backward(grads: tuple[Tensor, ...], grad_out: Tensor, *inputs: Tensor | float) -> None:
    """That of the values is summed with atomics.

    Where PyTorch is set to deterministic algorithms, it is summed by an index from values to the
    samples that look at them.
    """
    problem = problems.deform(library.TARGET, *inputs)
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
    gradient = interface.DeformGrad(
        library.TARGET.address(
            'grad_out', grad_out, grad_value.dtype, queries, *grad_value.shape[1:]
        ),
        None if ordered else sums.data_ptr(),
        *(t.data_ptr() for t in (grad_location, grad_weight, powers, rows, shares)),
    )
    both = ctypes.byref(problem), ctypes.byref(gradient)
    library.call('arta_point_deform_attention_backward', *both)
    if ordered:
        head = torch.arange(heads, device=rows.device)[:, None, None, None]
        numbers = torch.where(rows < 0, -1, rows.long() * heads + head).flatten()
        first, pairs = reverse_index(numbers, values * heads)
        library.call('arta_deform_return', *both, *(t.data_ptr() for t in (first, pairs, sums)))
    grad_value.copy_(sums)
    grad_power.copy_(powers.sum())
