"""The most memory that a process has taken."""

from __future__ import annotations

import resource
import sys
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
        try:
            # Unlike ru_maxrss, it can be reset and does not count the program that started this.
            for line in _STATUS.read_text().splitlines():
                if line.startswith('VmHWM:'):
                    return int(line.split()[1]) * 1024
        except OSError:
            pass
        unit = 1 if sys.platform == 'darwin' else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def resident(self) -> int:
        """Bytes held now."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
            return torch.cuda.memory_allocated(self.device)
        for line in _STATUS.read_text().splitlines():
            if line.startswith('VmRSS:'):
                return int(line.split()[1]) * 1024
        raise OSError(f'{_STATUS} has no VmRSS')
