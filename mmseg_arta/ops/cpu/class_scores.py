"""Starts the C++ kernel of class scores."""

from __future__ import annotations

import ctypes

from torch import Tensor

from ..native import problems
from . import interface, library


def forward(
    out: Tensor, class_probs: Tensor, mask_logits: Tensor, cell: int, height: int, width: int
) -> None:
    (batch, queries, classes), (rows, columns) = class_probs.shape, mask_logits.shape[2:]
    real, _ = library.TARGET.number_types('class_probs', class_probs)
    at = library.TARGET.address
    problem = interface.Scores(
        at('class_probs', class_probs, real, batch, queries, classes),
        at('mask_logits', mask_logits, real, batch, queries, rows, columns),
        *(batch, queries, classes, rows, columns, height, width),
        *(1 / cell, 1 / cell),
        problems.run(class_probs),
    )
    library.call('arta_class_scores', ctypes.byref(problem), out.data_ptr())
