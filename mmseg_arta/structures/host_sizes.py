"""Sizes of tensors as plain numbers on the host, while ``torch.jit.trace`` runs, too."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor


def host_sizes(tensor: Tensor) -> tuple[int, ...]:
    """``tensor.shape`` of numbers.

    Within ``torch.jit.trace`` the sizes of a tensor are tensors, which token counts and grids must
    not be: ops take them as numbers, and Python branches on them. There they are those of the
    example, constants of the trace. In a compiled graph they are symbols as ever.
    """
    if not torch.jit.is_tracing():
        return tuple(tensor.shape)
    with warnings.catch_warnings():
        # It is meant.
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        return tuple(int(size) for size in tensor.shape)
