"""Starts the Triton kernels of point deformable attention."""

from __future__ import annotations

import torch
from torch import Tensor

from ..reverse_index import reverse_index

# Queries of a program in the backward pass.
_BACKWARD_QUERIES = 8


def _sizes(inputs: tuple[Tensor | float, ...]) -> tuple[tuple, dict[str, int]]:
    """Sizes in the order that kernels take them, and blocks that hold neighbours and a head."""
    from .launch import power_of_two

    value, _, nearest, _, _, weight, _, floor, eps = inputs
    queries, heads, levels, points = weight.shape
    _, images, rows, columns, k = nearest.shape
    values, _, dim = value.shape
    sizes = (queries, heads, dim, levels * points, points, images, rows, columns, k, values)
    return (*sizes, floor, eps), dict(K=power_of_two(k), D=power_of_two(dim))


def forward(out: Tensor, *inputs: Tensor | float) -> None:
    import triton

    from .launch import on_device
    from .row_kernels import deform_forward_kernel

    if not out.numel():
        return
    queries, heads, _ = out.shape
    sizes, blocks = _sizes(inputs)
    with on_device(out):
        deform_forward_kernel[lambda meta: (triton.cdiv(queries, meta['BQ']), heads)](
            *inputs[:7], out, *sizes, **blocks
        )


def backward(grads: tuple[Tensor, ...], grad_out: Tensor, *inputs: Tensor | float) -> None:
    """Gradients repeat exactly."""
    import triton

    from .launch import on_device, power_of_two
    from .row_kernels import deform_backward_kernel, listed_sum_kernel

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
