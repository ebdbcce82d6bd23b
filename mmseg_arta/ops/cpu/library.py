"""Loads the compiled library and calls it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from .build import LIBRARY
from .interface import BAD_INDEX, FUNCTIONS, VERSION

#: Where the library of this package lies, built or not.
PATH = Path(__file__).resolve().parent / LIBRARY


@cache
def load(path: Path) -> tuple[ctypes.CDLL | None, str]:
    """The library at ``path`` and '', or None and the reason why it cannot be used."""
    if not path.is_file():
        return None, (
            'the C++ kernels are not built (no '
            f'{path}); in a checkout: python -m mmseg_arta.ops.cpu.build'
        )
    try:
        library = ctypes.CDLL(os.fspath(path))
        for name, (result, arguments) in FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        return None, f'{path} cannot be loaded: {error}'
    found = library.arta_cpu_version()
    if found != VERSION:
        return None, (
            f'{path} has interface version {found}, this package needs {VERSION}: '
            'build it again with python -m mmseg_arta.ops.cpu.build'
        )
    return library, ''


def library() -> ctypes.CDLL:
    """The library of this package.

    Raises:
        RuntimeError: if it cannot be used.
    """
    found, reason = load(PATH)
    if found is None:
        raise RuntimeError(f'mmseg_arta: {reason}')
    return found


def describe() -> str:
    """What the loaded library uses on this machine."""
    found = library()
    threads = 'shares OpenMP threads' if found.arta_cpu_shares_openmp() else 'own threads'
    return f'{found.arta_cpu_instructions().decode()}, {threads}'


def call(name: str, *arguments: object) -> None:
    """Call a function that returns 0 for success.

    Raises:
        MemoryError: if it could not get memory.
        IndexError: if an index that it was given lies outside its array.
    """
    code = getattr(library(), name)(*arguments)
    if code == BAD_INDEX:
        raise IndexError(f'mmseg_arta: {name} was given an index out of range')
    if code:
        raise MemoryError(f'mmseg_arta: {name} could not get memory')


def lengths(values: Sequence[int]) -> ctypes.Array:
    """Lengths on the host as an array of the library."""
    return (ctypes.c_int64 * len(values))(*values)


def threads() -> int:
    """How many threads a kernel may use."""
    return torch.get_num_threads()


def address(tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...], name: str) -> int:
    """Address of a dense CPU tensor.

    Raises:
        ValueError: if the tensor is not what the kernel expects.
    """
    if (
        tensor.device.type != 'cpu'
        or tensor.dtype != dtype
        or tuple(tensor.shape) != shape
        or not tensor.is_contiguous()
    ):
        raise ValueError(
            f'{name}: expected a contiguous {dtype} tensor {shape} on the CPU, found '
            f'{tensor.dtype} {tuple(tensor.shape)} with strides {tensor.stride()} on '
            f'{tensor.device}'
        )
    return tensor.data_ptr()


def real_type(tensor: Tensor, name: str) -> torch.dtype:
    """The number type of a kernel's first argument.

    Raises:
        ValueError: if kernels do not compute in it.
    """
    if tensor.dtype not in (torch.float32, torch.float64):
        raise ValueError(f'{name}: expected torch.float32 or torch.float64, found {tensor.dtype}')
    return tensor.dtype
