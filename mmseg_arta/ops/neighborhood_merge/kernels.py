"""Neighbourhood merge as PyTorch ops, and how its C++ and CUDA kernels are started."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_int, c_int64, c_void_p
from functools import partial

import torch
from torch import Tensor

from ...structures.contents import within
from ..custom_op import define, differentiate, empty_like
from ..library import Library, Run, cpu, cuda, fields
from ..reverse_index import reverse_index
from ..triton_backend import launcher


class Merge(ctypes.Structure):
    """``ArtaMerge``."""

    _fields_ = [
        *fields(c_void_p, 'feats rows weights'),
        *fields(c_int64, 'values places k sets dim'),
        *fields(Run, 'run'),
    ]


_FORWARD = (c_int, POINTER(Merge), c_void_p)
cpu.declare(
    'neighborhood_merge',
    2,
    arta_neighborhood_merge=_FORWARD,
    arta_neighborhood_merge_backward=(*_FORWARD, *[c_void_p] * 2),
)
cuda.declare(
    'neighborhood_merge',
    1,
    arta_neighborhood_merge=_FORWARD,
    arta_neighborhood_merge_backward=(*_FORWARD, *[c_void_p] * 4),
)


def _problem(library: Library, feats: Tensor, rows: Tensor, weights: Tensor) -> Merge:
    (values, dim), (places, k, sets) = feats.shape, weights.shape
    real, _ = library.number_types('feats', feats)
    return Merge(
        library.address('feats', feats, real, values, dim),
        library.address('rows', rows, torch.int64, places, k),
        library.address('weights', weights, real, places, k, sets),
        *(values, places, k, sets, dim),
        Run.on(feats),
    )


def _forward(library: Library, out: Tensor, *inputs: Tensor) -> None:
    problem = _problem(library, *inputs)
    library.call('arta_neighborhood_merge', ctypes.byref(problem), out.data_ptr())


def _backward(
    library: Library,
    grads: tuple[Tensor, Tensor],
    grad_out: Tensor,
    feats: Tensor,
    rows: Tensor,
    weights: Tensor,
) -> None:
    """Gradients repeat exactly."""
    problem = _problem(library, feats, rows, weights)
    shape = (weights.shape[0], weights.shape[2], feats.shape[1])
    # The C++ kernels make this index themselves.
    index = reverse_index(rows.flatten(), feats.shape[0]) if library is cuda else ()
    library.call(
        'arta_neighborhood_merge_backward',
        ctypes.byref(problem),
        library.address('grad_out', grad_out, feats.dtype, *shape),
        *(tensor.data_ptr() for tensor in (*index, *grads)),
    )


def check(feats: Tensor, rows: Tensor, weights: Tensor) -> None:
    """There is a row for every weight."""
    if rows.shape != weights.shape[:2]:
        raise ValueError(
            f'rows must be {tuple(weights.shape[:2])} for weights {tuple(weights.shape)}, '
            f'found {tuple(rows.shape)}'
        )


def contents(feats: Tensor, rows: Tensor, weights: Tensor) -> None:
    """Neighbours are rows of the features."""
    within(None, feats.shape[0] - 1, rows=rows)


def _check_backward(grad_out: Tensor, feats: Tensor, rows: Tensor, weights: Tensor) -> None:
    check(feats, rows, weights)
    shape = (weights.shape[0], weights.shape[2], feats.shape[1])
    if tuple(grad_out.shape) != shape:
        raise ValueError(f'grad_out must be {shape}, found {tuple(grad_out.shape)}')


FORWARD = {
    'cpu': partial(_forward, cpu),
    'cuda': partial(_forward, cuda),
    'triton': launcher(__name__, 'forward'),
}
BACKWARD = {
    'cpu': partial(_backward, cpu),
    'cuda': partial(_backward, cuda),
    'triton': launcher(__name__, 'backward'),
}

_INPUTS = 'Tensor feats, Tensor rows, Tensor weights'


def _result(feats: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    return feats.new_empty((weights.shape[0], weights.shape[2], feats.shape[1]))


def _products(feats, rows, weights) -> int:
    return weights[0] * weights[1] * weights[2] * feats[1]


forward = define(
    'neighborhood_merge',
    _INPUTS,
    'Tensor',
    _result,
    FORWARD,
    lambda *inputs: 2 * _products(*inputs),
    takes='f2 l2 f3',
    check=check,
    contents=contents,
)
backward = define(
    'neighborhood_merge_backward',
    f'Tensor grad_out, {_INPUTS}',
    '(Tensor, Tensor)',
    lambda grad_out, feats, rows, weights: empty_like(feats, weights),
    BACKWARD,
    # Gradients of features and of weights.
    lambda grad_out, *inputs: 4 * _products(*inputs),
    takes='f3 f2 l2 f3',
    check=_check_backward,
    contents=lambda grad_out, *inputs: contents(*inputs),
)
differentiate(forward, backward, tensors=3, wanted=(0, 2))
