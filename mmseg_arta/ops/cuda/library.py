"""Loads the compiled library and calls it."""

from __future__ import annotations

import ctypes
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
TARGET = Target('cuda', (torch.float32, torch.float16, torch.bfloat16))


@cache
def load(path: Path) -> tuple[ctypes.CDLL | None, str]:
    """The library at ``path`` and '', or None and the reason why it cannot be used."""
    return loader.load(path, 'CUDA', 'cuda', interface)


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
    return loader.usable(load(PATH))


def call(name: str, *arguments: object) -> None:
    """Call a function that returns 0 for success.

    Raises:
        ValueError: for sizes that the kernels do not have.
        RuntimeError: for a CUDA error.
    """
    code = getattr(library(), name)(*arguments)
    if code == interface.UNSUPPORTED:
        raise ValueError(f'mmseg_arta: {name} does not have these sizes on CUDA')
    if code:
        raise RuntimeError(f'mmseg_arta: {name} failed with CUDA error {code - interface.ERROR}')
