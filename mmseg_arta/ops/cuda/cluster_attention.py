"""Starts the CUDA kernels of cluster attention; see ``registered/cluster_attention.py``."""

from __future__ import annotations

import ctypes
from functools import partial

import torch
from torch import Tensor

from ..native import forward as native_forward
from ..native import problems
from ..reverse_index import reverse_index
from . import interface, library

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


forward = partial(native_forward.cluster_attention, library)


def backward(
    grads: tuple[Tensor, ...], grad_out: Tensor, out: Tensor, lse: Tensor, *inputs: Tensor | float
) -> None:
    """Gradients repeat exactly."""
    problem = problems.attention(library.TARGET, *inputs)
    q, start, neighbors = inputs[0], inputs[7], inputs[8]
    (total, heads, dim), width = q.shape, neighbors.shape[1]
    sums = lse.new_empty((library.library().arta_attention_parts(), heads, 6 + 2 * dim))
    delta = lse.new_empty(lse.shape)
    first, places = reverse_index(neighbors.flatten(), start.shape[0] - 1)
    attending = torch.div(places, max(width, 1), rounding_mode='floor').to(torch.int32)
    at = library.TARGET.address
    gradient = interface.AttentionGrad(
        at('grad_out', grad_out, q.dtype, *q.shape),
        at('out', out, q.dtype, *q.shape),
        at('lse', lse, torch.float32, total, heads),
        *(t.data_ptr() for t in (first, attending, delta, *grads[:2], sums)),
    )
    library.call('arta_cluster_attention_backward', ctypes.byref(problem), ctypes.byref(gradient))
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
