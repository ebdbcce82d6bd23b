"""What the public functions check, whatever back end runs: errors name the argument."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..structures.contents import numbers, readable, within

#: Most that a number of 32 bits counts.
MOST = (1 << 31) - 1

# Up to here double precision counts one by one.
_FARTHEST = float(1 << 53)


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


def whole(**values: Any) -> None:
    """Numbers on the host are integers; not asked while a graph is traced, which has symbols.

    Raises:
        TypeError: if one is not.
    """
    if torch.compiler.is_compiling():
        return
    for name, value in values.items():
        if not hasattr(value, '__index__'):
            raise TypeError(f'{name} must be an integer, found {value!r}')


def wholes(
    count: int | None = None, least: int | None = None, most: int | None = None, **values: Any
) -> None:
    """Sequences on the host hold ``count`` integers in a range, see :func:`whole`.

    Raises:
        TypeError: if one holds something else.
        ValueError: if one holds too many or too few, or one out of range.
    """
    if torch.compiler.is_compiling():
        return
    for name, value in values.items():
        if not isinstance(value, Sequence) or not all(hasattr(one, '__index__') for one in value):
            raise TypeError(f'{name} must be a sequence of integers, found {value!r}')
        if count is not None and len(value) != count:
            raise ValueError(f'{name} must be {count} integers, found {value!r}')
        if least is not None and any(one < least for one in value):
            raise ValueError(f'{name} must be at least {least} each, found {value!r}')
        if most is not None and any(one > most for one in value):
            raise ValueError(f'{name} must be at most {most} each, found {value!r}')


def number(**values: Any) -> None:
    """Numbers on the host are integers or floats.

    Raises:
        TypeError: if one is not.
    """
    if torch.compiler.is_compiling():
        return
    for name, value in values.items():
        if not isinstance(value, (Real, torch.SymInt, torch.SymFloat)):
            raise TypeError(f'{name} must be a number, found {value!r}')


def canvas(value: Any) -> None:
    """A canvas is ``(height, width)``, as large as keys of 64 bits allow.

    Raises:
        TypeError: if it is something else.
        ValueError: if a side is too small or too large.
    """
    wholes(2, canvas=value)
    if torch.compiler.is_compiling():
        return
    if not all(1 <= side <= MOST >> 1 for side in value):
        raise ValueError(f'canvas must be sides from 1 to {MOST >> 1}, found {tuple(value)}')


def size(least: int, most: int, **values: int) -> None:
    """Numbers on the host are integers in a range.

    Raises:
        TypeError: if one is no integer.
        ValueError: if one is not in the range.
    """
    whole(**values)
    for name, value in values.items():
        if value < least:
            raise ValueError(f'{name} must be at least {least}, found {value}')
        if value > most:
            raise ValueError(f'{name} must be at most {most}, found {value}')


def lengths(total: int, rows: str, **values: Sequence[int]) -> None:
    """Lengths of images are those of all rows.

    Args:
        total: number of rows.
        rows: what messages call the tensor that holds them.
        values: lengths, by name.

    Raises:
        ValueError: if one is negative, or they add up to something else.
    """
    for name, found in values.items():
        if any(length < 0 for length in found):
            raise ValueError(f'{name} must not be negative, found {tuple(found)}')
        if sum(found) != total:
            raise ValueError(
                f'{name} must have a sum of {total}, one for each row of {rows}, found {sum(found)}'
            )


def int32(**tensors: Tensor) -> tuple[Tensor, ...]:
    """Integers as numbers of 32 bits.

    Where the host does not read them, those that do not fit become the nearest that do.

    Raises:
        IndexError: if one does not fit, see :func:`~mmseg_arta.structures.contents.readable`.
    """
    return tuple(_as_int32(name, tensor) for name, tensor in tensors.items())


def _as_int32(name: str, tensor: Tensor) -> Tensor:
    if tensor.dtype == torch.int32:
        return tensor
    if tensor.dtype == torch.int64:
        if readable(tensor):
            within(-MOST - 1, MOST, **{name: tensor})
        else:
            tensor = tensor.clamp(-MOST - 1, MOST)
    return tensor.to(torch.int32)


def near(**places: Tensor) -> None:
    """Places ``(N, 2)`` are finite, and not beyond what double precision counts one by one.

    Raises:
        ValueError: if one is not.
    """
    for name, tensor in places.items():
        # bfloat16 is no type of NumPy's.
        values = numbers(tensor.double() if tensor.is_floating_point() else tensor)
        wrong = ~((values >= -_FARTHEST) & (values <= _FARTHEST))
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise ValueError(
                f'{name} must hold finite coordinates up to 2^53, found {values[place]} at {place}'
            )


def bounds(floor: float, eps: float) -> None:
    """Bounds of distances whose squares and inverses are numbers of single precision.

    Raises:
        TypeError: if one is no number.
        ValueError: if one is too small or too large.
    """
    number(floor=floor, eps=eps)
    if not 0 <= floor <= 1e30:
        raise ValueError(f'floor must be from 0 to 1e30, found {floor}')
    if not (eps == 0 or 1e-30 <= eps <= 1e30):
        raise ValueError(f'eps must be 0 or from 1e-30 to 1e30, found {eps}')
