"""Row-wise layers computed for some rows at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .eager import eager_on_cpu
from .fused_linear import ROWS

# Numbers in a block's input for every thread: with hidden channels they about fit a second-level
# cache.
_NUMBERS = 2**18
# Cells of a map.
_CELLS = 1024
# With fewer blocks, what lies between the layers fits the caches anyway.
_LEAST_BLOCKS = 8


def cells_at_once(x: Tensor) -> int | None:
    """How many cells of maps to compute at a time as :func:`by_rows` does rows; None for all.

    Args:
        x: ``(B, C, H, W)``.
    """
    step = _CELLS * torch.get_num_threads()
    few = x.shape[0] * x.shape[2] * x.shape[3] < _LEAST_BLOCKS * step
    return None if few or not eager_on_cpu(x) else step


def by_rows(
    function: Callable[..., Tensor],
    *rows: Tensor,
    width: int | None = None,
    at_once: bool = False,
) -> Tensor:
    """What ``function`` makes of tensors whose rows do not depend on each other.

    On a CPU without gradients it is called for a block of rows at a time: what lies between its
    layers stays in the cache, the large tensors there, which the system would hand out and clear
    anew each time, are not made at all, and all but the last block have as many rows as
    :mod:`~mmseg_arta.models.layers.fused_linear` asks for. Elsewhere it is called once.

    Args:
        function: takes blocks of ``rows``; returns a tensor with equally many rows.
        rows: tensors ``(T, ...)``.
        width: how many numbers of a row its layers take; those of the first tensor by default.
        at_once: call it once in any case, for what draws random numbers.
    """
    if at_once or not eager_on_cpu(rows[0]):
        return function(*rows)
    sizes = _block_sizes(rows[0], width)
    if len(sizes) == 1:
        return function(*rows)
    out: Tensor | None = None
    begin = 0
    for size in sizes:
        found = function(*(tensor[begin : begin + size] for tensor in rows))
        if out is None:
            out = found.new_empty((sum(sizes), *found.shape[1:]))
        out[begin : begin + size] = found
        begin += size
    return out


def _block_sizes(x: Tensor, width: int | None) -> list[int]:
    """Rows of every block of a tensor."""
    width = width or math.prod(x.shape[1:])
    step = max(_NUMBERS // max(width, 1) // ROWS, 1) * ROWS * torch.get_num_threads()
    whole, rest = len(x) // ROWS * ROWS, len(x) % ROWS
    # Below, calls for the rest would take as long as is won.
    if whole < _LEAST_BLOCKS * ROWS:
        return [len(x)]
    step = step if whole >= _LEAST_BLOCKS * step else whole
    sizes = [step] * (whole // step) + [whole % step, rest]
    return [size for size in sizes if size]
