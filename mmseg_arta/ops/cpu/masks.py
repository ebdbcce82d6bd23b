"""Starts the C++ kernel of mask probabilities."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from ..native import problems
from . import interface, library


def forward(
    out: Tensor, mask_logits: Tensor, cell: int, first: int, rows: int, width: int, strips: int
) -> None:
    shape = mask_logits.shape
    real, _ = library.TARGET.number_types('mask_logits', mask_logits)
    problem = interface.Masks(
        library.TARGET.address('mask_logits', mask_logits, real, *shape),
        *(*shape, cell, first, rows, width, strips),
        problems.run(mask_logits),
    )
    library.call('arta_mask_probabilities', ctypes.byref(problem), out.data_ptr())


def make_room(out: Tensor, like: Tensor, *shape: int) -> None:
    """Has memory put behind ``out`` before it is written."""
    library.call('arta_make_room', out.data_ptr(), out.nbytes, torch.get_num_threads())
