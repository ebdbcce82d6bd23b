"""Triton kernels of cluster attention, and how they are started."""

# Kernels have no annotations to postpone, and Triton reads those of constants.
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..reverse_index import reverse_index
from ..triton_launch import on_device, power_of_two, tuned
from .kernels import write_parameter_sums

# Tokens of a program in the backward pass; each program has its own sums of the parameters.
_BACKWARD_TOKENS = 16


@triton.jit
def _tile(xy, start, neighbors, row, exists, n, total, clusters, width, size, CS: tl.constexpr):
    """Rows of the n-th neighbour cluster of every token, and geometry as seen from it."""
    lane = tl.arange(0, CS)
    cluster = tl.load(neighbors + row * width + n, mask=exists, other=-1)
    found = (cluster >= 0) & (cluster < clusters)
    cluster = tl.where(found, cluster, 0)
    begin = tl.load(start + cluster, mask=found, other=0)
    end = tl.load(start + cluster + 1, mask=found, other=0)
    rows = begin[:, None] + lane[None, :]
    valid = (rows < end[:, None]) & (lane < size)[None, :] & (rows >= 0) & (rows < total)
    rows = tl.where(valid, rows, 0)
    x = tl.load(xy + 2 * row, mask=exists, other=0)
    y = tl.load(xy + 2 * row + 1, mask=exists, other=0)
    dx = (tl.load(xy + 2 * rows, mask=valid, other=0) - x[:, None]).to(tl.float32)
    dy = (tl.load(xy + 2 * rows + 1, mask=valid, other=0) - y[:, None]).to(tl.float32)
    distance = tl.sqrt(dx * dx + dy * dy)
    inverse = 1.0 / tl.maximum(distance, 1e-6)
    return rows, valid, dx, dy, distance, dy * inverse, dx * inverse


@triton.jit
def _bias(weight, bias, head, dx, dy, distance, sine, cosine):
    w = weight + head * 5
    return (
        tl.load(bias + head)
        + dx * tl.load(w)
        + dy * tl.load(w + 1)
        + distance * tl.load(w + 2)
        + sine * tl.load(w + 3)
        + cosine * tl.load(w + 4)
    )


@tuned(('heads', 'dim'), BT=(4, 8, 16))
@triton.jit
def forward_kernel(
    q, kv, weight, bias, blank_k, blank_v, xy, start, neighbors, out, lse,
    total, clusters, heads, dim, width, size, clamp, scale,
    CS: tl.constexpr, D: tl.constexpr, BT: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1)
    row = tl.program_id(0).to(tl.int64) * BT + tl.arange(0, BT)
    exists = row < total
    channel = tl.arange(0, D)
    inside = channel < dim
    at = (row[:, None] * heads + head) * dim + channel[None, :]
    mask = exists[:, None] & inside[None, :]
    query = tl.load(q + at, mask=mask, other=0).to(tl.float32) * scale
    key = tl.load(blank_k + head * dim + channel, mask=inside, other=0)
    value = tl.load(blank_v + head * dim + channel, mask=inside, other=0)
    most = tl.sum(query * key[None, :], 1)
    most = tl.minimum(tl.maximum(most, -clamp), clamp)
    all = tl.zeros([BT], tl.float32) + 1.0
    acc = tl.zeros([BT, D], tl.float32) + value[None, :]
    for n in range(width):
        rows, valid, dx, dy, distance, sine, cosine = _tile(
            xy, start, neighbors, row, exists, n, total, clusters, width, size, CS
        )
        place = (rows[:, :, None] * heads + head) * 2 * dim + channel[None, None, :]
        some = valid[:, :, None] & inside[None, None, :]
        keys = tl.load(kv + place, mask=some, other=0).to(tl.float32)
        s = tl.sum(query[:, None, :] * keys, 2)
        s += _bias(weight, bias, head, dx, dy, distance, sine, cosine)
        s = tl.where(valid, s, float('-inf'))
        highest = tl.maximum(most, tl.max(s, 1))
        shrink = tl.exp(most - highest)
        p = tl.exp(s - highest[:, None])
        values = tl.load(kv + place + dim, mask=some, other=0).to(tl.float32)
        acc = acc * shrink[:, None] + tl.sum(p[:, :, None] * values, 1)
        all = all * shrink + tl.sum(p, 1)
        most = highest
    acc = acc / all[:, None]
    tl.store(out + at, acc.to(out.dtype.element_ty), mask=mask)
    tl.store(lse + row * heads + head, most + tl.log(all), mask=exists)


@triton.jit
def backward_rows_kernel(
    q, kv, weight, bias, blank_k, blank_v, xy, start, neighbors, grad_out, out, lse,
    delta, grad_q, sums,
    total, clusters, heads, dim, width, size, clamp, scale,
    CS: tl.constexpr, D: tl.constexpr, BT: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1)
    row = tl.program_id(0).to(tl.int64) * BT + tl.arange(0, BT)
    exists = row < total
    channel = tl.arange(0, D)
    inside = channel < dim
    at = (row[:, None] * heads + head) * dim + channel[None, :]
    mask = exists[:, None] & inside[None, :]
    query = tl.load(q + at, mask=mask, other=0).to(tl.float32) * scale
    grad = tl.load(grad_out + at, mask=mask, other=0).to(tl.float32)
    own = tl.sum(grad * tl.load(out + at, mask=mask, other=0).to(tl.float32), 1)
    # A token that is not there has no weights.
    norm = tl.load(lse + row * heads + head, mask=exists, other=float('inf'))
    key = tl.load(blank_k + head * dim + channel, mask=inside, other=0)
    value = tl.load(blank_v + head * dim + channel, mask=inside, other=0)
    logit = tl.sum(query * key[None, :], 1)
    held = tl.minimum(tl.maximum(logit, -clamp), clamp)
    p = tl.exp(held - norm)
    # A logit that the clamp holds does not move.
    ds = tl.where(held == logit, p * (tl.sum(grad * value[None, :], 1) - own), 0.0)
    acc = ds[:, None] * key[None, :]
    to = sums + (tl.program_id(0) * heads + head) * (6 + 2 * dim)
    tl.store(to + 6 + channel, tl.sum(ds[:, None] * query, 0), mask=inside)
    tl.store(to + 6 + dim + channel, tl.sum(p[:, None] * grad, 0), mask=inside)
    # Bias gradients per token, to be summed at the end.
    sum_x = tl.zeros([BT], tl.float32)
    sum_y = tl.zeros([BT], tl.float32)
    sum_distance = tl.zeros([BT], tl.float32)
    sum_sine = tl.zeros([BT], tl.float32)
    sum_cosine = tl.zeros([BT], tl.float32)
    sum_all = tl.zeros([BT], tl.float32)
    # A half type's rounded output makes `own` wrong by a little, the same for all pairs of a token.
    # Their steps nearly cancel in these gradients, which therefore take that back again.
    exact = p * tl.sum(grad * value[None, :], 1)
    weight_x = tl.zeros([BT], tl.float32)
    weight_y = tl.zeros([BT], tl.float32)
    weight_distance = tl.zeros([BT], tl.float32)
    weight_sine = tl.zeros([BT], tl.float32)
    weight_cosine = tl.zeros([BT], tl.float32)
    weight_all = tl.zeros([BT], tl.float32)
    for n in range(width):
        rows, valid, dx, dy, distance, sine, cosine = _tile(
            xy, start, neighbors, row, exists, n, total, clusters, width, size, CS
        )
        place = (rows[:, :, None] * heads + head) * 2 * dim + channel[None, None, :]
        some = valid[:, :, None] & inside[None, None, :]
        keys = tl.load(kv + place, mask=some, other=0).to(tl.float32)
        values = tl.load(kv + place + dim, mask=some, other=0).to(tl.float32)
        s = tl.sum(query[:, None, :] * keys, 2)
        s += _bias(weight, bias, head, dx, dy, distance, sine, cosine)
        p2 = tl.where(valid, tl.exp(s - norm[:, None]), 0.0)
        along = tl.sum(grad[:, None, :] * values, 2)
        step = p2 * (along - own[:, None])
        exact += tl.sum(p2 * along, 1)
        acc += tl.sum(step[:, :, None] * keys, 1)
        sum_x += tl.sum(step * dx, 1)
        sum_y += tl.sum(step * dy, 1)
        sum_distance += tl.sum(step * distance, 1)
        sum_sine += tl.sum(step * sine, 1)
        sum_cosine += tl.sum(step * cosine, 1)
        sum_all += tl.sum(step, 1)
        weight_x += tl.sum(p2 * dx, 1)
        weight_y += tl.sum(p2 * dy, 1)
        weight_distance += tl.sum(p2 * distance, 1)
        weight_sine += tl.sum(p2 * sine, 1)
        weight_cosine += tl.sum(p2 * cosine, 1)
        weight_all += tl.sum(p2, 1)
    excess = own - exact
    tl.store(delta + row * heads + head, exact, mask=exists)
    tl.store(grad_q + at, (acc * scale).to(grad_q.dtype.element_ty), mask=mask)
    tl.store(to, tl.sum(sum_x + excess * weight_x, 0))
    tl.store(to + 1, tl.sum(sum_y + excess * weight_y, 0))
    tl.store(to + 2, tl.sum(sum_distance + excess * weight_distance, 0))
    tl.store(to + 3, tl.sum(sum_sine + excess * weight_sine, 0))
    tl.store(to + 4, tl.sum(sum_cosine + excess * weight_cosine, 0))
    tl.store(to + 5, tl.sum(sum_all + excess * weight_all, 0))


@tuned(('heads', 'dim'), BA=(4, 8, 16))
@triton.jit
def backward_clusters_kernel(
    q, kv, weight, bias, xy, start, grad_out, lse, delta, first, attending, grad_kv,
    total, heads, dim, size, scale,
    CS: tl.constexpr, D: tl.constexpr, BA: tl.constexpr,
):  # fmt: skip
    cluster = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    lane = tl.arange(0, CS)
    channel = tl.arange(0, D)
    inside = channel < dim
    begin = tl.load(start + cluster)
    end = tl.load(start + cluster + 1)
    rows = begin + lane
    valid = (rows < end) & (lane < size) & (rows >= 0) & (rows < total)
    rows = tl.where(valid, rows, 0)
    place = (rows[:, None] * heads + head) * 2 * dim + channel[None, :]
    some = valid[:, None] & inside[None, :]
    keys = tl.load(kv + place, mask=some, other=0).to(tl.float32)
    values = tl.load(kv + place + dim, mask=some, other=0).to(tl.float32)
    near_x = tl.load(xy + 2 * rows, mask=valid, other=0)
    near_y = tl.load(xy + 2 * rows + 1, mask=valid, other=0)
    grad_k = tl.zeros([CS, D], tl.float32)
    grad_v = tl.zeros([CS, D], tl.float32)
    last = tl.load(first + cluster + 1)
    for done in range(tl.load(first + cluster), last, BA):
        item = done + tl.arange(0, BA)
        exists = item < last
        row = tl.load(attending + item, mask=exists, other=0)
        at = (row[:, None] * heads + head) * dim + channel[None, :]
        mask = exists[:, None] & inside[None, :]
        query = tl.load(q + at, mask=mask, other=0).to(tl.float32) * scale
        grad = tl.load(grad_out + at, mask=mask, other=0).to(tl.float32)
        norm = tl.load(lse + row * heads + head, mask=exists, other=float('inf'))
        own = tl.load(delta + row * heads + head, mask=exists, other=0)
        x = tl.load(xy + 2 * row, mask=exists, other=0)
        y = tl.load(xy + 2 * row + 1, mask=exists, other=0)
        dx = (near_x[None, :] - x[:, None]).to(tl.float32)
        dy = (near_y[None, :] - y[:, None]).to(tl.float32)
        distance = tl.sqrt(dx * dx + dy * dy)
        inverse = 1.0 / tl.maximum(distance, 1e-6)
        s = tl.sum(query[:, None, :] * keys[None, :, :], 2)
        s += _bias(weight, bias, head, dx, dy, distance, dy * inverse, dx * inverse)
        p = tl.where(valid[None, :], tl.exp(s - norm[:, None]), 0.0)
        step = p * (tl.sum(grad[:, None, :] * values[None, :, :], 2) - own[:, None])
        grad_k += tl.sum(step[:, :, None] * query[:, None, :], 0)
        grad_v += tl.sum(p[:, :, None] * grad[:, None, :], 0)
    tl.store(grad_kv + place, grad_k.to(grad_kv.dtype.element_ty), mask=some)
    tl.store(grad_kv + place + dim, grad_v.to(grad_kv.dtype.element_ty), mask=some)


def _sizes(inputs: tuple[Any, ...]) -> tuple[tuple, dict[str, int]]:
    """Sizes in the order that kernels take them, and blocks that hold a cluster and a head."""
    q, start, neighbors, cluster_size, blank_clamp = inputs[0], *inputs[7:]
    total, heads, dim = q.shape
    sizes = (total, start.shape[0] - 1, heads, dim, neighbors.shape[1], cluster_size)
    blocks = dict(CS=power_of_two(cluster_size), D=power_of_two(dim))
    return (*sizes, blank_clamp, dim**-0.5), blocks


def forward(results: tuple[Tensor, Tensor], *inputs: Any) -> None:
    q = inputs[0]
    total, heads, _ = q.shape
    if not total or not heads:
        return
    sizes, blocks = _sizes(inputs)
    with on_device(q):
        forward_kernel[lambda meta: (triton.cdiv(total, meta['BT']), heads)](
            *inputs[:9], *results, *sizes, **blocks
        )


def backward(
    grads: tuple[Tensor, ...], grad_out: Tensor, out: Tensor, lse: Tensor, *inputs: Any
) -> None:
    """Gradients repeat exactly."""
    q, kv, weight, bias, _, _, xy, start, neighbors, cluster_size, _ = inputs
    total, heads, dim = q.shape
    clusters, width = start.shape[0] - 1, neighbors.shape[1]
    parts = triton.cdiv(total, _BACKWARD_TOKENS)
    sums = lse.new_zeros((parts, heads, 6 + 2 * dim))
    if total and heads:
        delta = lse.new_empty(lse.shape)
        first, places = reverse_index(neighbors.flatten(), clusters)
        attending = torch.div(places, max(width, 1), rounding_mode='floor')
        sizes, blocks = _sizes(inputs)
        with on_device(q):
            backward_rows_kernel[(parts, heads)](
                *inputs[:9],
                *(grad_out, out, lse, delta, grads[0], sums),
                *sizes,
                **blocks,
                BT=_BACKWARD_TOKENS,
            )
            backward_clusters_kernel[(clusters, heads)](
                *(q, kv, weight, bias, xy, start),
                *(grad_out, lse, delta, first, attending, grads[1]),
                *(total, heads, dim, cluster_size, dim**-0.5),
                **blocks,
            )
    write_parameter_sums(grads[2:], sums)
