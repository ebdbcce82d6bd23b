"""Starts the CUDA kernels of patch gathering."""

from __future__ import annotations

import ctypes
from functools import partial

import torch
from torch import Tensor

from ...structures import FINEST_PATCH
from ..native import forward as native_forward
from ..native import problems
from ..reverse_index import reverse_index
from . import library

forward = partial(native_forward.gather_patches, library)


def backward(grad_image: Tensor, grad_out: Tensor, xy: Tensor, batch: Tensor, *sizes: int) -> None:
    """Patches of one place are summed in their order, so that the gradient repeats exactly."""
    *shape, size = sizes
    images, channels, height, width = shape
    xy, unit = xy.to(torch.int32), size // FINEST_PATCH
    problem = problems.patches(library.TARGET, grad_out, xy, batch, tuple(shape), size)
    real, _ = library.TARGET.number_types('grad_out', grad_out)
    rows, columns = height // size, width // size
    column, row = torch.div(xy, unit, rounding_mode='floor').unbind(1)
    places = (batch * rows + row) * columns + column
    first, tokens = reverse_index(places, images * rows * columns)
    library.call(
        'arta_gather_patches_backward',
        ctypes.byref(problem),
        library.TARGET.address('grad_out', grad_out, real, xy.shape[0], size * size * channels),
        *(tensor.data_ptr() for tensor in (first, tokens, grad_image)),
    )
