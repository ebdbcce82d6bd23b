"""Starts the C++ kernels of patch gathering."""

from __future__ import annotations

import ctypes
from functools import partial

import torch
from torch import Tensor

from ..native import forward as native_forward
from ..native import problems
from . import library

forward = partial(native_forward.gather_patches, library)


def backward(grad_image: Tensor, grad_out: Tensor, xy: Tensor, batch: Tensor, *sizes: int) -> None:
    *shape, patch_size = sizes
    # Half types are summed in single precision.
    wide = problems.wide_type(grad_out.dtype)
    xy, grad = xy.to(torch.int32), grad_out.to(wide)
    total = grad_image if grad_image.dtype == wide else grad_image.to(wide)
    problem = problems.patches(library.TARGET, grad, xy, batch, tuple(shape), patch_size)
    numbers = patch_size * patch_size * shape[1]
    address = library.TARGET.address('grad_out', grad, wide, xy.shape[0], numbers)
    library.call('arta_gather_patches_backward', ctypes.byref(problem), address, total.data_ptr())
    if total is not grad_image:
        grad_image.copy_(total)
