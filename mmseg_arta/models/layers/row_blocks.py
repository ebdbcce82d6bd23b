"""Row-wise layers computed for some rows at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

# Rows of a block for every thread: with their hidden channels they fit a second-level cache.
_ROWS = 1024
# With fewer blocks, what lies between the layers fits the caches anyway.
_LEAST_BLOCKS = 8


def rows_at_once(x: Tensor, dims: Sequence[int] = (0,)) -> int | None:
    """How many rows of ``x`` to compute at a time, see :func:`by_rows`; None for all.

    Args:
        x: the rows.
        dims: its dimensions that count them.
    """
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or torch.jit.is_tracing():
        return None
    step = _ROWS * torch.get_num_threads()
    few = math.prod(x.shape[dim] for dim in dims) < _LEAST_BLOCKS * step
    return None if few or x.device.type != 'cpu' else step


def by_rows(
    function: Callable[..., Any],
    *rows: Tensor,
    last: Callable[..., Tensor] | None = None,
    at_once: bool = False,
) -> Tensor:
    """What ``function`` makes of tensors whose rows do not depend on each other.

    On a CPU without gradients it is called for a block of rows at a time if they are many: what
    lies between its layers stays in the cache, and the large tensors there, which the system would
    hand out and clear anew each time, are not made at all. Elsewhere it is called once.

    Args:
        function: takes blocks of ``rows``; returns a tensor with equally many rows, or the
            arguments of ``last``.
        rows: tensors ``(T, ...)``.
        last: the last step if it is one that can write to a given place, its argument ``out``.
        at_once: call it once in any case, for what draws random numbers.
    """

    def call(parts: tuple[Tensor, ...], **place: Tensor) -> Tensor:
        found = function(*parts)
        return found if last is None else last(*found, **place)

    step = None if at_once else rows_at_once(rows[0])
    if step is None:
        return call(rows)
    count = len(rows[0])
    out: Tensor | None = None
    for begin in range(0, count, step):
        parts = tuple(part[begin : begin + step] for part in rows)
        if out is None or last is None:
            found = call(parts)
            out = found.new_empty((count, *found.shape[1:])) if out is None else out
            out[begin : begin + step] = found
        else:
            call(parts, out=out[begin : begin + step])
    return out
