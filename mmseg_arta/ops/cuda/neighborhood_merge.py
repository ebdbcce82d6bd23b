"""Neighbourhood merge in CUDA, as PyTorch ops."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from ..cpu.neighborhood_merge import _backward_flops, _forward_flops
from . import interface, library


def _problem(feats: Tensor, rows: Tensor, weights: Tensor) -> interface.Merge:
    values, dim = feats.shape
    places, k, sets = weights.shape
    real = library.real_type(feats, 'feats')
    return interface.Merge(
        library.address(feats, real, (values, dim), 'feats'),
        library.address(rows, torch.int64, (places, k), 'rows'),
        library.address(weights, real, (places, k, sets), 'weights'),
        *(values, places, k, sets, dim),
        library.TYPES[real],
        library.stream(feats),
    )


def compute_forward(feats: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """The output ``(T, M, C)``."""
    problem = _problem(*(tensor.contiguous() for tensor in (feats, rows, weights)))
    out = _output(feats, weights)
    library.call('arta_neighborhood_merge', ctypes.byref(problem), out.data_ptr())
    return out


def _output(feats: Tensor, weights: Tensor) -> Tensor:
    return feats.new_empty((weights.shape[0], weights.shape[2], feats.shape[1]))


def compute_backward(
    grad_out: Tensor, feats: Tensor, rows: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of features and weights; they repeat exactly."""
    grad_out, *tensors = [tensor.contiguous() for tensor in (grad_out, feats, rows, weights)]
    problem = _problem(*tensors)
    shape = (weights.shape[0], weights.shape[2], feats.shape[1])
    grads = feats.new_empty(feats.shape), weights.new_empty(weights.shape)
    first, pairs = library.reverse_index(rows.flatten(), feats.shape[0])
    library.call(
        'arta_neighborhood_merge_backward',
        ctypes.byref(problem),
        library.address(grad_out, feats.dtype, shape, 'grad_out'),
        *(tensor.data_ptr() for tensor in (first, pairs, *grads)),
    )
    return grads


_forward = torch.library.custom_op(
    'mmseg_arta::neighborhood_merge_cuda',
    compute_forward,
    mutates_args=(),
    device_types='cuda',
    schema='(Tensor feats, Tensor rows, Tensor weights) -> Tensor',
)
_backward = torch.library.custom_op(
    'mmseg_arta::neighborhood_merge_backward_cuda',
    compute_backward,
    mutates_args=(),
    device_types='cuda',
    schema='(Tensor grad_out, Tensor feats, Tensor rows, Tensor weights) -> (Tensor, Tensor)',
)


@_forward.register_fake
def _(feats, rows, weights):
    return _output(feats, weights)


@_backward.register_fake
def _(grad_out, feats, rows, weights):
    return feats.new_empty(feats.shape), weights.new_empty(weights.shape)


def _setup_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _autograd(ctx, grad_out):
    feats, weights = _backward(grad_out, *ctx.saved_tensors)
    return feats, None, weights


_forward.register_autograd(_autograd, setup_context=_setup_context)
register_flop_formula(torch.ops.mmseg_arta.neighborhood_merge_cuda)(_forward_flops)
register_flop_formula(torch.ops.mmseg_arta.neighborhood_merge_backward_cuda)(_backward_flops)


def neighborhood_merge(feats: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """See :func:`mmseg_arta.ops.neighborhood_merge`; sums in float32."""
    return _forward(feats, rows, weights.to(feats.dtype))
