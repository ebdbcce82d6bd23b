"""Integers of the host as tensors on a device, without a copy where that is possible.

A copy makes the host wait until the device has taken it, and keeps a CUDA graph from being
captured. Equal numbers, and offsets of equal lengths, are made by the device itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor


def on_device(values: Sequence[int], device: torch.device) -> Tensor:
    """``(B,)`` int64."""
    if _are_equal(values):
        return torch.full((len(values),), values[0], dtype=torch.int64, device=device)
    return torch.tensor(values, dtype=torch.int64, device=device)


def offsets_from_lengths(lengths: Sequence[int], device: torch.device) -> Tensor:
    """Row offsets ``(B + 1,)`` int32 of packed sequences with the given lengths."""
    if _are_equal(lengths) and lengths[0] > 0:
        total = lengths[0] * len(lengths)
        return torch.arange(0, total + 1, lengths[0], dtype=torch.int32, device=device)
    ends = [0]
    for length in lengths:
        ends.append(ends[-1] + length)
    return torch.tensor(ends, dtype=torch.int32, device=device)


def are_numbers(values: Sequence[int]) -> bool:
    """Whether sizes on the host are numbers to reckon with, not symbols of a compiled graph.

    ``torch.export`` has numbers, where a model is exported for images of one size.
    """
    if torch.compiler.is_compiling() and not _is_exporting():
        return False
    return all(isinstance(value, int) for value in values)


def largest(*values: int) -> int:
    """The largest of numbers or symbols, without a look at what the symbols are."""
    # PyTorch 2.11's compiler takes `max` for symbols, and `sym_max` not for numbers.
    return reduce(max if torch.compiler.is_dynamo_compiling() else torch.sym_max, values)


def _is_exporting() -> bool:
    # Not in PyTorch 2.4 to 2.6; sizes count as symbols there. The compiler of 2.11 says that it
    # exports, whatever it does; exporting asks it for nothing.
    asked = getattr(torch.compiler, 'is_exporting', None)
    return asked is not None and not torch.compiler.is_dynamo_compiling() and asked()


def _are_equal(values: Sequence[int]) -> bool:
    return are_numbers(values) and len(set(values)) == 1
