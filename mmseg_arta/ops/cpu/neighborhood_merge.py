"""Neighbourhood merge in C++, as PyTorch ops."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from . import interface, library


def _problem(feats: Tensor, rows: Tensor, weights: Tensor) -> interface.Merge:
    values, dim = feats.shape
    places, k, sets = weights.shape
    dtype = library.real_type(feats, 'feats')
    return interface.Merge(
        library.address(feats, dtype, (values, dim), 'feats'),
        library.address(rows, torch.int64, (places, k), 'rows'),
        library.address(weights, dtype, (places, k, sets), 'weights'),
        *(values, places, k, sets, dim),
        dtype == torch.float64,
        library.threads(),
    )


@torch.library.custom_op(
    'mmseg_arta::neighborhood_merge_cpu',
    mutates_args=(),
    device_types='cpu',
    schema='(Tensor feats, Tensor rows, Tensor weights) -> Tensor',
)
def _forward(feats, rows, weights):
    tensors = [tensor.contiguous() for tensor in (feats, rows, weights)]
    problem = _problem(*tensors)
    out = _output(feats, weights)
    library.call('arta_neighborhood_merge', ctypes.byref(problem), out.data_ptr())
    return out


def _output(feats: Tensor, weights: Tensor) -> Tensor:
    return feats.new_empty((weights.shape[0], weights.shape[2], feats.shape[1]))


@_forward.register_fake
def _(feats, rows, weights):
    return _output(feats, weights)


@torch.library.custom_op(
    'mmseg_arta::neighborhood_merge_backward_cpu',
    mutates_args=(),
    device_types='cpu',
    schema='(Tensor grad_out, Tensor feats, Tensor rows, Tensor weights) -> (Tensor, Tensor)',
)
def _backward(grad_out, feats, rows, weights):
    grad_out, *tensors = [tensor.contiguous() for tensor in (grad_out, feats, rows, weights)]
    problem = _problem(*tensors)
    shape = (weights.shape[0], weights.shape[2], feats.shape[1])
    grads = _gradients(feats, weights)
    library.call(
        'arta_neighborhood_merge_backward',
        ctypes.byref(problem),
        library.address(grad_out, feats.dtype, shape, 'grad_out'),
        *(grad.data_ptr() for grad in grads),
    )
    return grads


def _gradients(*inputs: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in inputs)


@_backward.register_fake
def _(grad_out, feats, rows, weights):
    return _gradients(feats, weights)


def _setup_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _autograd(ctx, grad_out):
    feats, weights = _backward(grad_out, *ctx.saved_tensors)
    return feats, None, weights


_forward.register_autograd(_autograd, setup_context=_setup_context)


def _products(feats: tuple[int, ...], weights: tuple[int, ...]) -> int:
    return weights[0] * weights[1] * weights[2] * feats[1]


@register_flop_formula(torch.ops.mmseg_arta.neighborhood_merge_cpu)
def _forward_flops(feats, rows, weights, *args, out_shape=None, **kwargs) -> int:
    return 2 * _products(feats, weights)


@register_flop_formula(torch.ops.mmseg_arta.neighborhood_merge_backward_cpu)
def _backward_flops(grad_out, feats, rows, weights, *args, out_shape=None, **kwargs) -> int:
    # Gradients of features and of weights.
    return 4 * _products(feats, weights)


def neighborhood_merge(feats: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """See :func:`mmseg_arta.ops.neighborhood_merge`; all numbers in float32 or float64."""
    return _forward(feats, rows, weights)
