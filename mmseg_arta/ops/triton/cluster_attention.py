"""Starts the Triton kernels of cluster attention; see ``registered/cluster_attention.py``."""

from __future__ import annotations

import torch
from torch import Tensor

from ..cuda.cluster_attention import write_parameter_sums
from ..reverse_index import reverse_index

# Tokens of a program in the backward pass; each program has its own sums of the parameters.
_BACKWARD_TOKENS = 16


def _sizes(inputs: tuple[Tensor | float, ...]) -> tuple[tuple, dict[str, int]]:
    """Sizes in the order that kernels take them, and blocks that hold a cluster and a head."""
    from .launch import power_of_two

    q, start, neighbors, cluster_size, blank_clamp = inputs[0], *inputs[7:]
    total, heads, dim = q.shape
    sizes = (total, start.shape[0] - 1, heads, dim, neighbors.shape[1], cluster_size)
    blocks = dict(CS=power_of_two(cluster_size), D=power_of_two(dim))
    return (*sizes, blank_clamp, dim**-0.5), blocks


def forward(results: tuple[Tensor, Tensor], *inputs: Tensor | float) -> None:
    import triton

    from .attention_kernels import forward_kernel
    from .launch import on_device

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
    grads: tuple[Tensor, ...], grad_out: Tensor, out: Tensor, lse: Tensor, *inputs: Tensor | float
) -> None:
    """Gradients repeat exactly."""
    import triton

    from .attention_kernels import backward_clusters_kernel, backward_rows_kernel
    from .launch import on_device

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
