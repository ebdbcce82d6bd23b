"""Who refers to whom: what backward passes sum by, instead of with atomics."""

from __future__ import annotations

import torch
from torch import Tensor


def reverse_index(numbers: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Places of every number in a list: ``(first (groups + 1,), places)``, both int64.

    Those of number ``n`` are ``places[first[n]:first[n + 1]]``, ascending. Negative numbers come
    before ``first[0]``.
    """
    ordered, places = torch.sort(numbers, stable=True)
    edges = torch.arange(groups + 1, device=numbers.device, dtype=numbers.dtype)
    return torch.searchsorted(ordered, edges), places
