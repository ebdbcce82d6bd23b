"""Loads the compiled library; declares what ``csrc/cpu/interface.h`` declares."""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, c_char_p, c_double, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from .build import LIBRARY

#: Version of the interface that this file declares.
VERSION = 1

#: Where the library of this package lies, built or not.
PATH = Path(__file__).resolve().parent / LIBRARY


class Attention(ctypes.Structure):
    """``ArtaAttention``."""

    _fields_ = [
        *(
            (name, c_void_p)
            for name in (
                'q',
                'kv',
                'bias_weight',
                'bias_bias',
                'blank_k',
                'blank_v',
                'xy',
                'start',
                'neighbors',
            )
        ),
        *(
            (name, c_int64)
            for name in ('total', 'clusters', 'heads', 'dim', 'num_neighbors', 'cluster_size')
        ),
        ('blank_clamp', c_double),
        ('is_double', c_int64),
        ('threads', c_int64),
    ]


class AttentionGrad(ctypes.Structure):
    """``ArtaAttentionGrad``."""

    _fields_ = [
        (name, c_void_p)
        for name in (
            'grad_out',
            'out',
            'lse',
            'grad_q',
            'grad_kv',
            'grad_bias_weight',
            'grad_bias_bias',
            'grad_blank_k',
            'grad_blank_v',
        )
    ]


_FUNCTIONS = {
    'arta_cpu_version': (c_int64, []),
    'arta_cpu_instructions': (c_char_p, []),
    'arta_cpu_use': (c_int, [c_char_p]),
    'arta_cpu_shares_openmp': (c_int64, []),
    'arta_cluster_attention': (c_int, [POINTER(Attention), c_void_p, c_void_p]),
    'arta_cluster_attention_backward': (c_int, [POINTER(Attention), POINTER(AttentionGrad)]),
    'arta_nearest_clusters': (
        c_int,
        [c_void_p, c_void_p, c_int64, c_void_p, c_int64, c_int64, c_int64, c_void_p, c_int64],
    ),
}


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
        for name, (result, arguments) in _FUNCTIONS.items():
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
    """
    if getattr(library(), name)(*arguments):
        raise MemoryError(f'mmseg_arta: {name} could not get memory')


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
