"""Row-wise computations in blocks of rows that stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

#: Rows per thread and block: a few hundred channels of them fit a second-level cache.
_ROWS = 512


def by_rows(function: Callable[..., Any], *inputs: Tensor, whole: bool = False) -> Any:
    """``function(*inputs)``, for a function that treats every row by itself.

    Large intermediate results, such as the hidden features of a feed-forward network, cost more
    to write to memory and read again than their norms and activations to compute. Where nothing
    is kept for a backward pass, a CPU gets the rows in blocks. Anywhere else ``function`` is
    called once.

    Args:
        function: takes rows of all ``inputs`` and returns a tensor, or a tuple of them, with as
            many rows.
        inputs: tensors ``(T, ...)`` of equally many rows.
        whole: call once whatever the device, since rows have to do with each other now.
    """
    first = inputs[0]
    rows = first.shape[0]
    if (
        whole
        or torch.compiler.is_compiling()
        or first.device.type != 'cpu'
        or torch.is_grad_enabled()
        or rows < 2 * (block := _ROWS * torch.get_num_threads())
    ):
        return function(*inputs)
    results: list[Tensor] = []
    single = False
    for begin in range(0, rows, block):
        part = function(*(x[begin : begin + block] for x in inputs))
        single = isinstance(part, Tensor)
        parts = (part,) if single else part
        if not results:
            results = [p.new_empty((rows, *p.shape[1:])) for p in parts]
        for result, p in zip(results, parts, strict=True):
            result[begin : begin + block] = p
    return results[0] if single else tuple(results)
