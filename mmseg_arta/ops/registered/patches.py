"""Patch gathering as PyTorch ops."""

from __future__ import annotations

from torch import Tensor

from ..cpu import patches as cpu
from ..cuda import patches as cuda
from .define import define

_BACKENDS = {'cpu': cpu, 'cuda': cuda}

forward = define(
    'gather_patches',
    'Tensor image, Tensor xy, Tensor batch, int patch_size',
    'Tensor',
    lambda image, xy, batch, size: image.new_empty((xy.shape[0], size * size * image.shape[1])),
    {name: backend.forward for name, backend in _BACKENDS.items()},
)
backward = define(
    'gather_patches_backward',
    'Tensor grad_out, Tensor xy, Tensor batch, SymInt images, SymInt channels, SymInt height, '
    'SymInt width, int patch_size',
    'Tensor',
    lambda grad_out, xy, batch, *sizes: grad_out.new_empty(sizes[:-1]),
    {name: backend.backward for name, backend in _BACKENDS.items()},
)


def _setup_context(ctx, inputs, output) -> None:
    # The image itself is not needed.
    image, xy, batch, *ctx.rest = inputs
    ctx.image_shape = tuple(image.shape)
    ctx.save_for_backward(xy, batch)


def _gradients(ctx, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    grad = backward(grad_out, *ctx.saved_tensors, *ctx.image_shape, *ctx.rest)
    return grad, None, None, None, None


forward.register_autograd(_gradients, setup_context=_setup_context)
