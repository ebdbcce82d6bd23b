"""Loads the compiled library and calls it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

from ..native import loader
from ..native.problems import Target
from . import interface
from .build import LIBRARY

#: Where the library of this package lies, built or not.
PATH = Path(__file__).resolve().parent / LIBRARY

#: What its kernels take.
TARGET = Target('cpu', (torch.float32, torch.float64))


@cache
def load(path: Path) -> tuple[ctypes.CDLL | None, str]:
    """The library at ``path`` and '', or None and the reason why it cannot be used."""
    return loader.load(path, 'C++', 'cpu', interface)


def library() -> ctypes.CDLL:
    """The library of this package.

    Raises:
        RuntimeError: if it cannot be used.
    """
    return loader.usable(load(PATH))


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
    if code == interface.BAD_INDEX:
        raise IndexError(f'mmseg_arta: {name} was given an index out of range')
    if code:
        raise MemoryError(f'mmseg_arta: {name} could not get memory')


def lengths(values: Sequence[int]) -> ctypes.Array:
    """Lengths on the host as an array of the library."""
    return (ctypes.c_int64 * len(values))(*values)
