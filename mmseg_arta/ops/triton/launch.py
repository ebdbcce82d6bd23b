"""How kernels are started."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import triton
from torch import Tensor

from . import interpreted


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
