"""Softmax attention of several heads."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .eager import eager_on_cpu

# Keys from which on a copy pays.
_MANY = 512


def multi_head_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention of every head's queries to its keys.

    PyTorch's kernel for CPUs multiplies blocks of a head's rows. The heads of a linear layer's
    result lie interleaved: with many keys it is faster to lay every head's rows end to end first.

    Args:
        q: ``(B, H, N, d)`` queries.
        k: ``(B, H, M, d)`` keys.
        v: ``(B, H, M, d)`` values.
        mask: bool, which keys a query may look at, or numbers to add to the logits; must
            broadcast to ``(B, H, N, M)``.

    Returns:
        ``(B, H, N, d)``.
    """
    if eager_on_cpu(k) and k.shape[2] >= _MANY:
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
