"""Loads the compiled library and calls it."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from .build import LIBRARY
from .interface import ERROR, FUNCTIONS, UNSUPPORTED, VERSION

#: Where the library of this package lies, built or not.
PATH = Path(__file__).resolve().parent / LIBRARY

#: Type of the devices that tensors must lie on.
DEVICE = 'cuda'

#: Number types of the kernels, as ``ArtaType``.
TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}


@cache
def load(path: Path) -> tuple[ctypes.CDLL | None, str]:
    """The library at ``path`` and '', or None and the reason why it cannot be used."""
    if not path.is_file():
        return None, (
            'the CUDA kernels are not built (no '
            f'{path}); in a checkout: python -m mmseg_arta.ops.cuda.build'
        )
    try:
        library = ctypes.CDLL(os.fspath(path))
        for name, (result, arguments) in FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        return None, f'{path} cannot be loaded: {error}'
    found = library.arta_cuda_version()
    if found != VERSION:
        return None, (
            f'{path} has interface version {found}, this package needs {VERSION}: '
            'build it again with python -m mmseg_arta.ops.cuda.build'
        )
    return library, ''


def available(path: Path) -> str:
    """'' if the kernels can be used, or the reason why not."""
    reason = load(path)[1]
    if reason:
        return reason
    return '' if torch.cuda.is_available() else 'PyTorch finds no CUDA device'


def library() -> ctypes.CDLL:
    """The library of this package.

    Raises:
        RuntimeError: if it cannot be used.
    """
    found, reason = load(PATH)
    if found is None:
        raise RuntimeError(f'mmseg_arta: {reason}')
    return found


def call(name: str, *arguments: object) -> None:
    """Call a function that returns 0 for success.

    Raises:
        ValueError: for sizes that the kernels do not have.
        RuntimeError: for a CUDA error.
    """
    code = getattr(library(), name)(*arguments)
    if code == UNSUPPORTED:
        raise ValueError(f'mmseg_arta: {name} does not have these sizes on CUDA')
    if code:
        raise RuntimeError(f'mmseg_arta: {name} failed with CUDA error {code - ERROR}')


def stream(tensor: Tensor) -> int | None:
    """The stream that work on a tensor's device goes to."""
    return torch.cuda.current_stream(tensor.device).cuda_stream if tensor.is_cuda else None


def address(tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...], name: str) -> int:
    """Address of a dense tensor on the device.

    Raises:
        ValueError: if the tensor is not what the kernel expects.
    """
    if (
        tensor.device.type != DEVICE
        or tensor.dtype != dtype
        or tuple(tensor.shape) != shape
        or not tensor.is_contiguous()
    ):
        raise ValueError(
            f'{name}: expected a contiguous {dtype} tensor {shape} on {DEVICE}, found '
            f'{tensor.dtype} {tuple(tensor.shape)} with strides {tensor.stride()} on '
            f'{tensor.device}'
        )
    return tensor.data_ptr()


def real_type(tensor: Tensor, name: str) -> torch.dtype:
    """The number type of a kernel's first argument.

    Raises:
        ValueError: if kernels do not compute in it.
    """
    if tensor.dtype not in TYPES:
        raise ValueError(
            f'{name}: expected one of {", ".join(map(str, TYPES))}, found {tensor.dtype}'
        )
    return tensor.dtype


def reverse_index(numbers: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Places of every number in a list: ``(first (groups + 1,), places)``, both int64.

    Those of number ``n`` are ``places[first[n]:first[n + 1]]``, ascending. Negative numbers come
    before ``first[0]``.
    """
    ordered, places = torch.sort(numbers, stable=True)
    edges = torch.arange(groups + 1, device=numbers.device, dtype=numbers.dtype)
    return torch.searchsorted(ordered, edges), places
