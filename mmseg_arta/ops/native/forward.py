"""Starts forward passes, whose C functions have the same names and arguments in both libraries.

``library`` is the module of a back end that holds its ``TARGET`` and ``call``.
"""

from __future__ import annotations

import ctypes
from types import ModuleType

import torch
from torch import Tensor

from . import problems


def cluster_attention(
    library: ModuleType, results: tuple[Tensor, Tensor], *inputs: Tensor | float
) -> None:
    problem = problems.attention(library.TARGET, *inputs)
    addresses = (tensor.data_ptr() for tensor in results)
    library.call('arta_cluster_attention', ctypes.byref(problem), *addresses)


def point_deform_attention(library: ModuleType, out: Tensor, *inputs: Tensor | float) -> None:
    problem = problems.deform(library.TARGET, *inputs)
    library.call('arta_point_deform_attention', ctypes.byref(problem), out.data_ptr())


def neighborhood_merge(library: ModuleType, out: Tensor, *inputs: Tensor) -> None:
    problem = problems.merge(library.TARGET, *inputs)
    library.call('arta_neighborhood_merge', ctypes.byref(problem), out.data_ptr())


def gather_patches(
    library: ModuleType, out: Tensor, image: Tensor, xy: Tensor, batch: Tensor, patch_size: int
) -> None:
    xy, shape = xy.to(torch.int32), tuple(image.shape)
    problem = problems.patches(library.TARGET, image, xy, batch, shape, patch_size)
    address = library.TARGET.address('image', image, image.dtype, *shape)
    library.call('arta_gather_patches', ctypes.byref(problem), address, out.data_ptr())
