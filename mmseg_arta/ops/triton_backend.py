"""The Triton back end: for GPUs where the CUDA kernels are not built.

Triton is imported when a kernel runs first. With ``TRITON_INTERPRET=1`` its interpreter runs the
kernels on the CPU, to test them.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from functools import cache

import torch


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels."""
    return os.environ.get('TRITON_INTERPRET', '') == '1'


@cache
def installed() -> bool:
    """Whether Triton is there to be imported."""
    return importlib.util.find_spec('triton') is not None


def unusable() -> str:
    """'' if the kernels can be used, or the reason why not."""
    if not installed():
        return 'Triton is not installed'
    if not interpreted() and not torch.cuda.is_available():
        return 'PyTorch finds no CUDA device (TRITON_INTERPRET=1 runs the kernels on the CPU)'
    return ''


def launcher(kernels: str, name: str) -> Callable[..., None]:
    """A function of an op's ``triton_kernels.py``, imported when it is called first.

    Args:
        kernels: name of the op's module ``kernels``, beside the Triton kernels.
        name: of the function.
    """
    package = kernels.rpartition('.')[0]

    def launch(*arguments: object) -> None:
        getattr(importlib.import_module(f'{package}.triton_kernels'), name)(*arguments)

    return launch
