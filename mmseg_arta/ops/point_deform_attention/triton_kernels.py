"""Triton kernels of point deformable attention, and how they are started."""

# Kernels have no annotations to postpone, and Triton reads those of constants.
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..reverse_index import reverse_index
from ..triton_launch import listed_sum_kernel, on_device, power_of_two, tuned

# Queries of a program in the backward pass.
_BACKWARD_QUERIES = 8


@triton.jit
def _sample(
    location, centers, nearest, image, query, exists, head, s, power,
    heads, samples, points, images, rows, columns, k, values, floor, eps,
    K: tl.constexpr,
):  # fmt: skip
    """The tokens around sample s of every query: rows, offsets, and interpolation weights."""
    place = location + ((query * heads + head) * samples + s) * 2
    x = tl.load(place, mask=exists, other=0)
    y = tl.load(place + 1, mask=exists, other=0)
    col = tl.minimum(tl.maximum(_round(x), 0.0), columns - 1.0).to(tl.int64)
    line = tl.minimum(tl.maximum(_round(y), 0.0), rows - 1.0).to(tl.int64)
    cell = ((s // points * images + image) * rows + line) * columns + col
    lane = tl.arange(0, K)
    wanted = exists[:, None] & (lane < k)[None, :] & ((image >= 0) & (image < images))[:, None]
    row = tl.load(nearest + cell[:, None] * k + lane[None, :], mask=wanted, other=-1)
    found = wanted & (row >= 0) & (row < values)
    row = tl.where(found, row, 0)
    dx = x[:, None] - tl.load(centers + 2 * row, mask=found, other=0)
    dy = y[:, None] - tl.load(centers + 2 * row + 1, mask=found, other=0)
    squared = dx * dx + dy * dy
    log = tl.log(tl.where(squared < floor, floor, squared))
    raised = tl.exp(power * log)
    inverse = tl.where(found, 1.0 / (raised + eps), 0.0)
    total = tl.sum(inverse, 1) + eps
    return row, found, dx, dy, squared, log, raised, inverse, total


@triton.jit
def _round(x):
    """The nearest integer, halves to even."""
    low = tl.floor(x)
    rest = x - low
    odd = low - 2.0 * tl.floor(low * 0.5)
    return tl.where((rest > 0.5) | ((rest == 0.5) & (odd > 0.5)), low + 1.0, low)


@tuned(('heads', 'dim', 'samples'), BQ=(4, 8, 16))
@triton.jit
def deform_forward_kernel(
    value, centers, nearest, batch, location, weight, power, out,
    queries, heads, dim, samples, points, images, rows, columns, k, values, floor, eps,
    K: tl.constexpr, D: tl.constexpr, BQ: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1)
    query = tl.program_id(0).to(tl.int64) * BQ + tl.arange(0, BQ)
    exists = query < queries
    image = tl.load(batch + query, mask=exists, other=0)
    channel = tl.arange(0, D)
    inside = channel < dim
    exponent = tl.load(power)
    acc = tl.zeros([BQ, D], tl.float32)
    for s in range(samples):
        row, found, _dx, _dy, _squared, _log, _raised, inverse, total = _sample(
            location, centers, nearest, image, query, exists, head, s, exponent,
            heads, samples, points, images, rows, columns, k, values, floor, eps, K,
        )  # fmt: skip
        w = tl.load(weight + (query * heads + head) * samples + s, mask=exists, other=0)
        share = inverse * (w / total)[:, None]
        at = (row[:, :, None] * heads + head) * dim + channel[None, None, :]
        mask = found[:, :, None] & inside[None, None, :]
        acc += tl.sum(share[:, :, None] * tl.load(value + at, mask=mask, other=0).to(tl.float32), 1)
    at = (query[:, None] * heads + head) * dim + channel[None, :]
    tl.store(out + at, acc.to(out.dtype.element_ty), mask=exists[:, None] & inside[None, :])


@triton.jit
def deform_backward_kernel(
    value, centers, nearest, batch, location, weight, power, grad_out,
    grad_location, grad_weight, grad_power, pair_rows, pair_shares,
    queries, heads, dim, samples, points, images, rows, columns, k, values, floor, eps,
    K: tl.constexpr, D: tl.constexpr, BQ: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1)
    query = tl.program_id(0).to(tl.int64) * BQ + tl.arange(0, BQ)
    exists = query < queries
    image = tl.load(batch + query, mask=exists, other=0)
    channel = tl.arange(0, D)
    inside = channel < dim
    exponent = tl.load(power)
    at = (query[:, None] * heads + head) * dim + channel[None, :]
    grad = tl.load(grad_out + at, mask=exists[:, None] & inside[None, :], other=0).to(tl.float32)
    lane = tl.arange(0, K)
    power_sum = tl.zeros([BQ], tl.float32)
    for s in range(samples):
        row, found, dx, dy, squared, log, raised, inverse, total = _sample(
            location, centers, nearest, image, query, exists, head, s, exponent,
            heads, samples, points, images, rows, columns, k, values, floor, eps, K,
        )  # fmt: skip
        item = (query * heads + head) * samples + s
        w = tl.load(weight + item, mask=exists, other=0)
        share = inverse / total[:, None]
        place = (row[:, :, None] * heads + head) * dim + channel[None, None, :]
        mask = found[:, :, None] & inside[None, None, :]
        numbers = tl.load(value + place, mask=mask, other=0).to(tl.float32)
        dot = tl.sum(grad[:, None, :] * numbers, 2)
        mean = tl.sum(share * dot, 1)
        # How much more a token's product is than the mean: by differences, as nearly all may
        # cancel. The shares lack eps / total to 1.
        above = dot * (eps / total)[:, None]
        above += tl.sum(share[:, None, :] * (dot[:, :, None] - dot[:, None, :]), 2)
        grad_log = -(w / total)[:, None] * above * inverse * inverse * raised
        grad_log = tl.where(found, grad_log, 0.0)
        power_sum += tl.sum(grad_log * log, 1)
        # A distance at its lower bound does not move.
        moves = found & (squared >= floor) & (squared > 0)
        step = tl.where(moves, 2.0 * exponent * grad_log / tl.where(moves, squared, 1.0), 0.0)
        tl.store(grad_weight + item, mean, mask=exists)
        tl.store(grad_location + 2 * item, tl.sum(step * dx, 1), mask=exists)
        tl.store(grad_location + 2 * item + 1, tl.sum(step * dy, 1), mask=exists)
        pair = item[:, None] * k + lane[None, :]
        wanted = exists[:, None] & (lane < k)[None, :]
        tl.store(pair_rows + pair, tl.where(found, row, -1), mask=wanted)
        tl.store(pair_shares + pair, share * w[:, None], mask=wanted)
    tl.store(grad_power + query * heads + head, power_sum, mask=exists)


def _sizes(inputs: tuple[Any, ...]) -> tuple[tuple, dict[str, int]]:
    """Sizes in the order that kernels take them, and blocks that hold neighbours and a head."""
    value, _, nearest, _, _, weight, _, floor, eps = inputs
    queries, heads, levels, points = weight.shape
    _, images, rows, columns, k = nearest.shape
    values, _, dim = value.shape
    sizes = (queries, heads, dim, levels * points, points, images, rows, columns, k, values)
    return (*sizes, floor, eps), dict(K=power_of_two(k), D=power_of_two(dim))


def forward(out: Tensor, *inputs: Any) -> None:
    if not out.numel():
        return
    queries, heads, _ = out.shape
    sizes, blocks = _sizes(inputs)
    with on_device(out):
        deform_forward_kernel[lambda meta: (triton.cdiv(queries, meta['BQ']), heads)](
            *inputs[:7], out, *sizes, **blocks
        )


def backward(grads: tuple[Tensor, ...], grad_out: Tensor, *inputs: Any) -> None:
    """Gradients repeat exactly."""
    grad_value, grad_location, grad_weight, grad_power = grads
    (values, heads, dim), k = grad_value.shape, inputs[2].shape[4]
    queries, _, levels, points = grad_weight.shape
    rows = grad_weight.new_empty((*grad_weight.shape, k), dtype=torch.int64)
    if not queries or not heads or not dim or not rows.numel():
        for grad in grads:
            grad.zero_()
        return
    shares = grad_weight.new_empty(rows.shape)
    powers = grad_weight.new_empty((queries, heads))
    sizes, blocks = _sizes(inputs)
    with on_device(grad_value):
        deform_backward_kernel[(triton.cdiv(queries, _BACKWARD_QUERIES), heads)](
            *inputs[:7],
            *(grad_out, grad_location, grad_weight, powers, rows, shares),
            *sizes,
            **blocks,
            BQ=_BACKWARD_QUERIES,
        )
        if values:
            # Without atomics: for every value and head the samples that look at it.
            head = torch.arange(heads, device=rows.device)[:, None, None, None]
            numbers = torch.where(rows < 0, -1, rows * heads + head).flatten()
            first, pairs = reverse_index(numbers, values * heads)
            each = levels * points * k
            listed_sum_kernel[(values * heads, 1)](
                *(grad_out, torch.div(pairs, each, rounding_mode='floor')),
                *(shares.flatten()[pairs], first, grad_value, dim),
                D=power_of_two(dim),
            )
    grad_power.copy_(powers.sum())
