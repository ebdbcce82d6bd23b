"""Whether a faster way for inference on a CPU may be taken."""

from __future__ import annotations

import torch
from torch import Tensor


def eager_on_cpu(x: Tensor) -> bool:
    """Whether a CPU computes with ``x`` right now, without gradients, compiler or tracer."""
    watched = torch.compiler.is_compiling() or torch.is_grad_enabled() or torch.jit.is_tracing()
    return x.device.type == 'cpu' and not watched
