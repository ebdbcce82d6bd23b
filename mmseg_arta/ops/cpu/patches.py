"""Patch gathering in C++, as PyTorch ops."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from ...structures import FINEST_PATCH
from . import interface, library


def _problem(
    xy: Tensor, batch: Tensor, shape: tuple[int, int, int, int], patch_size: int, item: int
) -> interface.Patches:
    total = xy.shape[0]
    return interface.Patches(
        library.address(xy, torch.int32, (total, 2), 'xy'),
        library.address(batch, torch.int64, (total,), 'batch'),
        total,
        *shape,
        patch_size,
        FINEST_PATCH,
        item,
        library.threads(),
    )


@torch.library.custom_op(
    'mmseg_arta::gather_patches_cpu',
    mutates_args=(),
    device_types='cpu',
    schema='(Tensor image, Tensor xy, Tensor batch, int patch_size) -> Tensor',
)
def _forward(image, xy, batch, patch_size):
    image, xy, batch = image.contiguous(), xy.to(torch.int32).contiguous(), batch.contiguous()
    problem = _problem(xy, batch, tuple(image.shape), patch_size, image.element_size())
    out = _output(image, xy, patch_size)
    library.call(
        'arta_gather_patches',
        ctypes.byref(problem),
        library.address(image, image.dtype, tuple(image.shape), 'image'),
        out.data_ptr(),
    )
    return out


def _output(image: Tensor, xy: Tensor, patch_size: int) -> Tensor:
    return image.new_empty((xy.shape[0], patch_size * patch_size * image.shape[1]))


@_forward.register_fake
def _(image, xy, batch, patch_size):
    return _output(image, xy, patch_size)


@torch.library.custom_op(
    'mmseg_arta::gather_patches_backward_cpu',
    mutates_args=(),
    device_types='cpu',
    schema='(Tensor grad_out, Tensor xy, Tensor batch, SymInt images, SymInt channels, '
    'SymInt height, SymInt width, int patch_size) -> Tensor',
)
def _backward(grad_out, xy, batch, images, channels, height, width, patch_size):
    # Half types are summed in single precision.
    real = torch.promote_types(grad_out.dtype, torch.float32)
    grad, xy, batch = (
        grad_out.to(real).contiguous(),
        xy.to(torch.int32).contiguous(),
        batch.contiguous(),
    )
    shape = (images, channels, height, width)
    problem = _problem(xy, batch, shape, patch_size, grad.element_size())
    out = grad.new_empty(shape)
    rows = (xy.shape[0], patch_size * patch_size * channels)
    library.call(
        'arta_gather_patches_backward',
        ctypes.byref(problem),
        library.address(grad, real, rows, 'grad_out'),
        out.data_ptr(),
    )
    return out.to(grad_out.dtype)


@_backward.register_fake
def _(grad_out, xy, batch, images, channels, height, width, patch_size):
    return grad_out.new_empty((images, channels, height, width))


def _setup_context(ctx, inputs, output):
    image, xy, batch, ctx.patch_size = inputs
    ctx.image_shape = tuple(image.shape)
    ctx.save_for_backward(xy, batch)


def _autograd(ctx, grad_out):
    grad = _backward(grad_out, *ctx.saved_tensors, *ctx.image_shape, ctx.patch_size)
    return grad, None, None, None


_forward.register_autograd(_autograd, setup_context=_setup_context)


def gather_patches(image: Tensor, xy: Tensor, batch: Tensor, patch_size: int) -> Tensor:
    """See :func:`mmseg_arta.ops.gather_patches`."""
    return _forward(image, xy, batch, patch_size)
