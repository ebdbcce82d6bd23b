"""Numbers keep their type, whatever autocast a caller is in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """A context for the device of ``x`` in which autocast is off.

    Tensors without data (device ``meta``) know no autocast.
    """
    if x.device.type == 'meta':
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)
