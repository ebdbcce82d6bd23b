"""What numbers were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from ...ops import available_backends
from ...version import __version__


def machine(device: str) -> dict[str, Any]:
    """What the numbers were measured on."""
    info = {
        'device': device,
        'processor': _processor(),
        'instructions': torch.backends.cpu.get_cpu_capability(),
        'cores': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'python': platform.python_version(),
        'torch': torch.__version__,
        'mmseg_arta': __version__,
        # Results are published: without the folders of this machine.
        'back ends': {
            name: reason.partition(' (')[0] for name, reason in available_backends().items()
        },
    }
    if device.startswith('cuda'):
        properties = torch.cuda.get_device_properties(device)
        info |= {
            'gpu': properties.name,
            'compute capability': f'{properties.major}.{properties.minor}',
            'gpu memory': properties.total_memory,
            'cuda': torch.version.cuda,
        }
    return info


def _processor() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor()
