"""Triton kernels of point deformable attention and neighbourhood merge."""

import triton
import triton.language as tl

from .launch import tuned


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
        at = (row[:, :, None] * heads + head) * dim + channel[None, None, :]
        mask = found[:, :, None] & inside[None, None, :]
        numbers = tl.load(value + at, mask=mask, other=0).to(tl.float32)
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


@triton.jit
def listed_sum_kernel(source, index, weight, first, out, dim, D: tl.constexpr):
    """Sums of weighted rows of a list: out[n] from items first[n]..first[n + 1] - 1."""
    number = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * D + tl.arange(0, D)
    inside = channel < dim
    acc = tl.zeros([D], tl.float32)
    for item in range(tl.load(first + number), tl.load(first + number + 1)):
        row = tl.load(index + item)
        numbers = tl.load(source + row * dim + channel, mask=inside, other=0)
        acc += tl.load(weight + item).to(tl.float32) * numbers.to(tl.float32)
    tl.store(out + number * dim + channel, acc.to(out.dtype.element_ty), mask=inside)


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
