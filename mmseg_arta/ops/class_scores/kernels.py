"""Mask probabilities of pixels as a PyTorch op, and how its C++ kernel is started.

For inference, without gradients.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_int, c_int64, c_void_p

from torch import Tensor

from .. import checks
from ..custom_op import define
from ..library import Run, cpu, fields


class Masks(ctypes.Structure):
    """``ArtaMasks``."""

    _fields_ = [
        *fields(c_void_p, 'logits'),
        *fields(c_int64, 'queries rows columns cell first height width strips'),
        *fields(Run, 'run'),
    ]


cpu.declare('class_scores', 2, arta_mask_probabilities=(c_int, POINTER(Masks), c_void_p))


def _on_cpu(
    out: Tensor, mask_logits: Tensor, cell: int, first: int, rows: int, width: int, strips: int
) -> None:
    shape = mask_logits.shape
    real, _ = cpu.number_types('mask_logits', mask_logits)
    problem = Masks(
        cpu.address('mask_logits', mask_logits, real, *shape),
        *(*shape, cell, first, rows, width, strips),
        Run.on(mask_logits),
    )
    cpu.call('arta_mask_probabilities', ctypes.byref(problem), out.data_ptr())


def _probabilities(
    mask_logits: Tensor, cell: int, first: int, rows: int, width: int, strips: int
) -> Tensor:
    return mask_logits.new_empty((rows * strips, mask_logits.shape[0], width // strips))


def check(mask_logits: Tensor, cell: int, first: int, rows: int, width: int, strips: int) -> None:
    """The rows of pixels are covered by cells, and divide into strips."""
    checks.size(1, checks.MOST, cell=cell, strips=strips)
    height, across = (count * cell for count in mask_logits.shape[1:])
    checks.size(0, height, first=first)
    checks.size(0, height - first, rows=rows)
    checks.size(0, min(across, checks.MOST), width=width)
    if width % strips:
        raise ValueError(f'strips must divide the width of {width} pixels, found {strips}')


FORWARD = {'cpu': _on_cpu}

#: From logits ``(Q, h, w)`` of an image, the side of their cells in pixels, and the first one,
#: number and width of rows of pixels, each cut into equal strips, to probabilities
#: ``(rows * strips, Q, width / strips)``.
forward = define(
    'mask_probabilities',
    'Tensor mask_logits, int cell, int first, int rows, int width, int strips',
    'Tensor',
    _probabilities,
    FORWARD,
    takes='f3',
    check=check,
)
