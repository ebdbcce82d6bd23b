"""Neighbourhood merge as PyTorch ops."""

from __future__ import annotations

from torch import Tensor

from ..cpu import neighborhood_merge as cpu
from ..cuda import neighborhood_merge as cuda
from ..triton import neighborhood_merge as triton
from .define import define, differentiate, empty_like

_BACKENDS = {'cpu': cpu, 'cuda': cuda, 'triton': triton}

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
    {name: backend.forward for name, backend in _BACKENDS.items()},
    lambda *inputs: 2 * _products(*inputs),
)
backward = define(
    'neighborhood_merge_backward',
    f'Tensor grad_out, {_INPUTS}',
    '(Tensor, Tensor)',
    lambda grad_out, feats, rows, weights: empty_like(feats, weights),
    {name: backend.backward for name, backend in _BACKENDS.items()},
    # Gradients of features and of weights.
    lambda grad_out, *inputs: 4 * _products(*inputs),
)
differentiate(forward, backward, tensors=3, wanted=(0, 2))
