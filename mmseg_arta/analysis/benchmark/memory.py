"""The most memory that a process has taken."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

_STATUS = Path('/proc/self/status')
_RESET = Path('/proc/self/clear_refs')


class PeakMemory:
    """On a GPU the most allocated memory, on a CPU the most resident memory of the process.

    Both hold all there is, weights included; that of the process also Python and its libraries.

    Args:
        device: whose memory.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def trim(self) -> None:
        """Hand back what was freed and kept, which would serve what comes next unseen."""
        gc.collect()
        if self.device.type == 'cuda':
            torch.cuda.empty_cache()
            return
        with suppress(OSError, AttributeError, TypeError):  # other C libraries than glibc
            ctypes.CDLL(None).malloc_trim(0)

    def reset(self) -> bool:
        """Forget earlier peaks; False where the system does not let that happen."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            return True
        try:
            _RESET.write_text('5')
        except OSError:
            return False
        return True

    def read(self) -> int:
        """Bytes at most since the last reset, or since the process started."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
            return torch.cuda.max_memory_allocated(self.device)
        # Unlike ru_maxrss, it can be reset and does not count the program that started this.
        peak = _status('VmHWM')
        if peak is not None:
            return peak
        unit = 1 if sys.platform == 'darwin' else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def held(self) -> int | None:
        """Bytes now; None where the system does not say."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
            return torch.cuda.memory_allocated(self.device)
        return _status('VmRSS')


def _status(field: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    found = (line.split()[1] for line in lines if line.startswith(f'{field}:'))
    return next((int(kib) * 1024 for kib in found), None)
