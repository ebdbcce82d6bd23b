"""Starts the C++ kernels of point deformable attention."""

from __future__ import annotations

import ctypes
from functools import partial

from torch import Tensor

from ..native import forward as native_forward
from ..native import problems
from . import interface, library

forward = partial(native_forward.point_deform_attention, library)


def backward(grads: tuple[Tensor, ...], grad_out: Tensor, *inputs: Tensor | float) -> None:
    problem = problems.deform(library.TARGET, *inputs)
    value, queries = inputs[0], inputs[3].shape[0]
    gradient = interface.DeformGrad(
        library.TARGET.address('grad_out', grad_out, value.dtype, queries, *value.shape[1:]),
        *(grad.data_ptr() for grad in grads),
    )
    library.call(
        'arta_point_deform_attention_backward', ctypes.byref(problem), ctypes.byref(gradient)
    )
