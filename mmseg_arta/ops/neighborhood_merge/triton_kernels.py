"""Triton kernels of neighbourhood merge, and how they are started."""

# Kernels have no annotations to postpone, and Triton reads those of constants.
import torch
import triton
import triton.language as tl
from torch import Tensor

from ..reverse_index import reverse_index
from ..triton_launch import listed_sum_kernel, on_device, power_of_two, tuned

_MOST_CHANNELS = 128  # of a program


@tuned(('dim', 'sets', 'k'), BC=(32, 64, 128))
@triton.jit
def merge_forward_kernel(
    feats, rows, weights, out, values, k, sets, dim, M: tl.constexpr, BC: tl.constexpr
):
    place = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BC + tl.arange(0, BC)
    inside = channel < dim
    m = tl.arange(0, M)
    acc = tl.zeros([M, BC], tl.float32)
    for j in range(k):
        row = tl.load(rows + place * k + j) + tl.zeros([BC], tl.int64)
        found = inside & (row >= 0) & (row < values)
        numbers = tl.load(feats + row * dim + channel, mask=found, other=0)
        w = tl.load(weights + (place * k + j) * sets + m, mask=m < sets, other=0)
        acc += w.to(tl.float32)[:, None] * numbers.to(tl.float32)[None, :]
    at = (place * sets + m[:, None]) * dim + channel[None, :]
    mask = (m < sets)[:, None] & inside[None, :]
    tl.store(out + at, acc.to(out.dtype.element_ty), mask=mask)


@triton.jit
def merge_weights_kernel(
    feats, rows, grad_out, grad_weights, values, k, sets, dim,
    M: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    pair = tl.program_id(0).to(tl.int64)
    m = tl.arange(0, M)
    row = tl.load(rows + pair) + tl.zeros([C], tl.int64)
    acc = tl.zeros([M], tl.float32)
    for begin in range(0, dim, C):
        channel = begin + tl.arange(0, C)
        inside = channel < dim
        found = inside & (row >= 0) & (row < values)
        numbers = tl.load(feats + row * dim + channel, mask=found, other=0)
        at = (pair // k * sets + m[:, None]) * dim + channel[None, :]
        grad = tl.load(grad_out + at, mask=(m < sets)[:, None] & inside[None, :], other=0)
        acc += tl.sum(grad.to(tl.float32) * numbers.to(tl.float32)[None, :], 1)
    to = grad_weights + pair * sets + m
    tl.store(to, acc.to(grad_weights.dtype.element_ty), mask=m < sets)


def forward(out: Tensor, feats: Tensor, rows: Tensor, weights: Tensor) -> None:
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
