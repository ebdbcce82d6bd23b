"""Starts the C++ kernels of neighbourhood merge."""

from __future__ import annotations

import ctypes
from functools import partial

from torch import Tensor

from ..native import forward as native_forward
from ..native import problems
from . import library

forward = partial(native_forward.neighborhood_merge, library)


def backward(
    grads: tuple[Tensor, Tensor], grad_out: Tensor, feats: Tensor, rows: Tensor, weights: Tensor
) -> None:
    problem = problems.merge(library.TARGET, feats, rows, weights)
    shape = (weights.shape[0], weights.shape[2], feats.shape[1])
    library.call(
        'arta_neighborhood_merge_backward',
        ctypes.byref(problem),
        library.TARGET.address('grad_out', grad_out, feats.dtype, *shape),
        *(grad.data_ptr() for grad in grads),
    )
