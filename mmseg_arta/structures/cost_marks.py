"""A mark on the mask step, for those who count what a decoder costs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.profiler import record_function

#: Name of the mark, in profiles as well.
MASK_STEP = 'mmseg_arta::mask_step'


def mask_step(embed: Tensor, grid: tuple[int, int]) -> AbstractContextManager[object]:
    """Mark the product of query embeddings with mask features, however it is computed.

    Mask2Former multiplies every query with a dense map of mask features. A decoder that gets the
    same masks by fewer products does so inside of this context; a count of its operations then
    tells what it executes from what the dense product would cost:

        with mask_step(embed, grid):
            logits = ...

    The mark is PyTorch's ``record_function``, so profiles show it too. It changes nothing, and
    compiled code is without it.

    Args:
        embed: ``(B, Q, C)`` query embeddings.
        grid: ``(rows, columns)`` of the dense mask features.
    """
    if torch.compiler.is_compiling():
        return nullcontext()
    return record_function(MASK_STEP, str(embed.numel() * grid[0] * grid[1]))
