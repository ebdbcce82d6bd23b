"""Starts the Triton kernels of neighbourhood merge."""

from __future__ import annotations

import torch
from torch import Tensor

from ..reverse_index import reverse_index

_MOST_CHANNELS = 128  # of a program


def forward(out: Tensor, feats: Tensor, rows: Tensor, weights: Tensor) -> None:
    import triton

    from .launch import on_device, power_of_two
    from .row_kernels import merge_forward_kernel

    (values, dim), (places, k, sets) = feats.shape, weights.shape
    if not out.numel():
        return
    with on_device(feats):
        merge_forward_kernel[lambda meta: (places, triton.cdiv(dim, meta['BC']))](
            *(feats, rows, weights, out),
            *(values, k, sets, dim),
            M=power_of_two(sets),
        )


def backward(
    grads: tuple[Tensor, Tensor], grad_out: Tensor, feats: Tensor, rows: Tensor, weights: Tensor
) -> None:
    """Gradients repeat exactly."""
    import triton

    from .launch import on_device, power_of_two
    from .row_kernels import listed_sum_kernel, merge_weights_kernel

    grad_feats, grad_weights = grads
    (values, dim), (places, k, sets) = feats.shape, weights.shape
    if not grad_feats.numel() or not grad_weights.numel():
        for grad in grads:
            grad.zero_()
        return
    block = min(power_of_two(dim), _MOST_CHANNELS)
    # For every row of feats the (place, neighbour, set) triples in which it occurs.
    each = rows[..., None].expand(-1, -1, sets).flatten()
    first, triples = reverse_index(each, values)
    place = torch.div(triples, k * sets, rounding_mode='floor')
    with on_device(feats):
        merge_weights_kernel[(places * k,)](
            *(feats, rows, grad_out, grad_weights),
            *(values, k, sets, dim),
            M=power_of_two(sets),
            C=block,
        )
        listed_sum_kernel[(values, triton.cdiv(dim, block))](
            *(grad_out, place * sets + triples % sets),
            *(weights.flatten()[triples], first, grad_feats, dim),
            D=block,
        )
