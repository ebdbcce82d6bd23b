"""Where models run."""

from __future__ import annotations

import torch


def check_device(name: str) -> str:
    """The name of a device that is there.

    Raises:
        ValueError: if it is neither the CPU nor a CUDA device of this machine.
    """
    try:
        kind = torch.device(name).type
    except RuntimeError:
        kind = ''
    if kind not in ('cpu', 'cuda'):
        raise ValueError(f"--device must be 'cpu', 'cuda' or 'cuda:N', found {name!r}")
    if kind == 'cuda' and not torch.cuda.is_available():
        raise ValueError(f'--device {name}: PyTorch finds no CUDA device here')
    if kind == 'cuda' and (torch.device(name).index or 0) >= torch.cuda.device_count():
        raise ValueError(f'--device {name}: there are only {torch.cuda.device_count()} devices')
    return name
