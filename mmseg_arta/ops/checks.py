"""What the public functions check, whatever back end runs: errors name the argument."""

from __future__ import annotations

import torch
from torch import Tensor


def same_device(**tensors: Tensor) -> None:
    """All tensors lie on the device of the first one.

    Raises:
        ValueError: if one does not.
    """
    (first, reference), *others = tensors.items()
    for name, tensor in others:
        if tensor.device != reference.device:
            raise ValueError(
                f'{name} must be on {reference.device} as {first} is, found {tensor.device}'
            )


def floating(**tensors: Tensor) -> None:
    """All tensors hold floating-point numbers.

    Raises:
        ValueError: if one does not.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ValueError(f'{name} must hold floating-point numbers, found {tensor.dtype}')


def real(**tensors: Tensor) -> None:
    """All tensors hold integers or floating-point numbers.

    Raises:
        ValueError: if one does not.
    """
    for name, tensor in tensors.items():
        if tensor.is_complex() or tensor.dtype == torch.bool:
            raise ValueError(f'{name} must hold real numbers, found {tensor.dtype}')


def int64(**tensors: Tensor) -> None:
    """All tensors hold 64-bit integers.

    Raises:
        ValueError: if one does not.
    """
    for name, tensor in tensors.items():
        if tensor.dtype != torch.int64:
            raise ValueError(f'{name} must be torch.int64, found {tensor.dtype}')


def integers(**tensors: Tensor) -> None:
    """All tensors hold integers of any size.

    Raises:
        ValueError: if one does not.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
            raise ValueError(f'{name} must hold integers, found {tensor.dtype}')
