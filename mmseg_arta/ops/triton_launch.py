"""What the Triton kernels of several ops share: how they are started, and sums over lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_backend import interpreted


def tuned(key: Sequence[str], **choices: Sequence[int]) -> Callable[[Any], Any]:
    """Autotunes a kernel over one block size and numbers of warps; the interpreter takes the first.

    Args:
        key: arguments whose change calls for tuning again.
        choices: the block size's name, and its values.
    """
    ((name, values),) = choices.items()
    configs = [
        triton.Config({name: value}, num_warps=warps) for value in values for warps in (1, 4)
    ]
    return triton.autotune(configs[:1] if interpreted() else configs, key=list(key))


def on_device(tensor: Tensor) -> Any:
    """Kernels start on the current device: make it the tensor's."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def power_of_two(count: int) -> int:
    """The least power of two that is not below ``count`` and not below 1."""
    return triton.next_power_of_2(max(count, 1))


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
