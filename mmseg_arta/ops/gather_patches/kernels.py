"""Patch gathering as PyTorch ops, and how its C++ and CUDA kernels are started."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_int, c_int64, c_void_p
from functools import partial

import torch
from torch import Tensor

from ...structures import FINEST_PATCH
from ...structures.contents import numbers, within
from .. import checks
from ..custom_op import define
from ..library import Library, Run, cpu, cuda, fields, wide_type
from ..reverse_index import reverse_index


class Patches(ctypes.Structure):
    """``ArtaPatches``."""

    _fields_ = [
        *fields(c_void_p, 'xy batch'),
        *fields(c_int64, 'total images channels height width size unit item'),
        *fields(Run, 'run'),
    ]


_FORWARD = (c_int, POINTER(Patches), c_void_p, c_void_p)
cpu.declare(
    'gather_patches',
    2,
    arta_gather_patches=_FORWARD,
    arta_gather_patches_backward=_FORWARD,
)
cuda.declare(
    'gather_patches',
    1,
    arta_gather_patches=_FORWARD,
    arta_gather_patches_backward=(*_FORWARD, c_void_p, c_void_p),
)


def _problem(
    library: Library, pixels: Tensor, xy: Tensor, batch: Tensor, shape: tuple[int, ...], size: int
) -> Patches:
    """Patches of images of some shape; ``pixels`` are what is read."""
    total = xy.shape[0]
    return Patches(
        library.address('xy', xy, torch.int32, total, 2),
        library.address('batch', batch, torch.int64, total),
        *(total, *shape, size, FINEST_PATCH, pixels.element_size()),
        Run.on(pixels),
    )


def _forward(
    library: Library, out: Tensor, image: Tensor, xy: Tensor, batch: Tensor, patch_size: int
) -> None:
    (xy,), shape = checks.int32(xy=xy), tuple(image.shape)
    problem = _problem(library, image, xy, batch, shape, patch_size)
    address = library.address('image', image, image.dtype, *shape)
    library.call('arta_gather_patches', ctypes.byref(problem), address, out.data_ptr())


def _backward_on_cpu(
    grad_image: Tensor, grad_out: Tensor, xy: Tensor, batch: Tensor, *sizes: int
) -> None:
    *shape, patch_size = sizes
    # Half types are summed in single precision.
    wide = wide_type(grad_out.dtype)
    (xy,), grad = checks.int32(xy=xy), grad_out.to(wide)
    total = grad_image if grad_image.dtype == wide else grad_image.to(wide)
    problem = _problem(cpu, grad, xy, batch, tuple(shape), patch_size)
    numbers = patch_size * patch_size * shape[1]
    address = cpu.address('grad_out', grad, wide, xy.shape[0], numbers)
    cpu.call('arta_gather_patches_backward', ctypes.byref(problem), address, total.data_ptr())
    if total is not grad_image:
        grad_image.copy_(total)


def _backward_on_cuda(
    grad_image: Tensor, grad_out: Tensor, xy: Tensor, batch: Tensor, *sizes: int
) -> None:
    """Patches of one place are summed in their order, so that the gradient repeats exactly."""
    *shape, size = sizes
    images, channels, height, width = shape
    (xy,), unit = checks.int32(xy=xy), size // FINEST_PATCH
    problem = _problem(cuda, grad_out, xy, batch, tuple(shape), size)
    real, _ = cuda.number_types('grad_out', grad_out)
    rows, columns = height // size, width // size
    column, row = torch.div(xy, unit, rounding_mode='floor').unbind(1)
    places = (batch * rows + row) * columns + column
    first, tokens = reverse_index(places, images * rows * columns)
    cuda.call(
        'arta_gather_patches_backward',
        ctypes.byref(problem),
        cuda.address('grad_out', grad_out, real, xy.shape[0], size * size * channels),
        *(tensor.data_ptr() for tensor in (first, tokens, grad_image)),
    )


#: Most pixels of a patch's side.
MOST_SIZE = 1 << 14


def unsupported(image: Tensor) -> str:
    """Why the kernels do not copy numbers of this type, or ''."""
    size = image.element_size()
    return '' if size in (1, 2, 4, 8) else f'numbers of {size} bytes, of 1, 2, 4 or 8 elsewhere'


def _check_patches(
    xy: Tensor, batch: Tensor, shape: Sequence[int], what: str, patch_size: int
) -> None:
    checks.size(FINEST_PATCH, MOST_SIZE, patch_size=patch_size)
    if patch_size % FINEST_PATCH:
        raise ValueError(f'patch_size must be a multiple of {FINEST_PATCH}, found {patch_size}')
    height, width = shape[2:]
    if height % patch_size or width % patch_size:
        raise ValueError(
            f'{what} of {height}x{width} px does not divide into patches of {patch_size} px'
        )
    if tuple(xy.shape) != (batch.shape[0], 2):
        raise ValueError(
            f'xy must be ({batch.shape[0]}, 2) for batch {tuple(batch.shape)}, '
            f'found {tuple(xy.shape)}'
        )


def check(image: Tensor, xy: Tensor, batch: Tensor, patch_size: int) -> None:
    """The image divides into patches."""
    _check_patches(xy, batch, image.shape, 'image', patch_size)
    if max(image.shape) > checks.MOST:
        raise ValueError(f'image must have sizes up to {checks.MOST}, found {tuple(image.shape)}')
    if unsupported(image):
        raise ValueError(f'image must hold numbers of 1, 2, 4 or 8 bytes, found {image.dtype}')


def _places(xy: Tensor, batch: Tensor, shape: Sequence[int], patch_size: int) -> None:
    images, _, height, width = shape
    within(0, images - 1, batch=batch)
    unit = patch_size // FINEST_PATCH
    for name, size, values in (
        ('xy[:, 0]', width, xy[:, 0]),
        ('xy[:, 1]', height, xy[:, 1]),
    ):
        within(0, (size - patch_size) // FINEST_PATCH, **{name: values})
        found = numbers(values)
        if (found % unit).any():
            wrong = found[found % unit != 0][0]
            raise ValueError(
                f'{name} must be multiples of {unit}, the side of a patch of {patch_size} px, '
                f'found {wrong}'
            )


def contents(image: Tensor, xy: Tensor, batch: Tensor, patch_size: int) -> None:
    """Patches are patches of the images."""
    _places(xy, batch, image.shape, patch_size)


def _check_backward(grad_out: Tensor, xy: Tensor, batch: Tensor, *sizes: int) -> None:
    images, channels, height, width, patch_size = sizes
    checks.size(0, checks.MOST, images=images, channels=channels, height=height, width=width)
    _check_patches(xy, batch, sizes[:4], 'height and width: an image', patch_size)
    shape = (batch.shape[0], patch_size * patch_size * channels)
    if tuple(grad_out.shape) != shape:
        raise ValueError(f'grad_out must be {shape}, found {tuple(grad_out.shape)}')
    if images * channels * height * width > _MOST_NUMBERS:
        raise ValueError(
            f'images must be smaller: found (images, channels, height, width) {sizes[:4]}'
        )


_MOST_NUMBERS = 1 << 48

FORWARD = {'cpu': partial(_forward, cpu), 'cuda': partial(_forward, cuda)}
BACKWARD = {'cpu': _backward_on_cpu, 'cuda': _backward_on_cuda}

forward = define(
    'gather_patches',
    'Tensor image, Tensor xy, Tensor batch, int patch_size',
    'Tensor',
    lambda image, xy, batch, size: image.new_empty((xy.shape[0], size * size * image.shape[1])),
    FORWARD,
    takes='a4 i2 l1',
    check=check,
    contents=contents,
)
backward = define(
    'gather_patches_backward',
    'Tensor grad_out, Tensor xy, Tensor batch, SymInt images, SymInt channels, SymInt height, '
    'SymInt width, int patch_size',
    'Tensor',
    lambda grad_out, xy, batch, *sizes: grad_out.new_empty(sizes[:-1]),
    BACKWARD,
    takes='f2 i2 l1',
    check=_check_backward,
    contents=lambda grad_out, xy, batch, *sizes: _places(xy, batch, sizes[:4], sizes[4]),
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
