"""Starts the C++ kernels of cluster attention; see ``registered/cluster_attention.py``."""

from __future__ import annotations

import ctypes
from functools import partial

from torch import Tensor

from ..native import forward as native_forward
from ..native import problems
from . import interface, library

forward = partial(native_forward.cluster_attention, library)


def backward(
    grads: tuple[Tensor, ...], grad_out: Tensor, out: Tensor, lse: Tensor, *inputs: Tensor | float
) -> None:
    problem = problems.attention(library.TARGET, *inputs)
    q, at = inputs[0], library.TARGET.address
    gradient = interface.AttentionGrad(
        at('grad_out', grad_out, q.dtype, *q.shape),
        at('out', out, q.dtype, *q.shape),
        at('lse', lse, q.dtype, *q.shape[:2]),
        *(grad.data_ptr() for grad in grads),
    )
    library.call('arta_cluster_attention_backward', ctypes.byref(problem), ctypes.byref(gradient))
