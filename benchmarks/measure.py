"""What the benchmarks share: interleaved timing, the machine's limits, and results as JSON."""

from __future__ import annotations

import ctypes
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

#: Seconds.
PATIENCE = 3.0

RESULTS = Path(__file__).resolve().parent / 'results'


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device == 'cuda':
        torch.cuda.synchronize()


def seconds(function: Callable[[], object], device: str) -> float:
    """How long one call takes.

    On one thread of a CPU its processor time, which other programs do not prolong.
    """
    alone = device == 'cpu' and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    synchronize(device)
    begin = clock()
    function()
    synchronize(device)
    return clock() - begin


def interleaved(
    functions: Mapping[str, Callable[[], object]], device: str, rounds: int = 5
) -> dict[str, float]:
    """Seconds a call of each function, the least of several rounds.

    Every round calls each function once, so that what else the machine does meets all of them.
    The least time is the one that was disturbed least. The first call prepares what is made once;
    one that takes longer than :data:`PATIENCE` is the only one.
    """
    times = {name: [seconds(function, device)] for name, function in functions.items()}
    slow = {name for name, first in times.items() if first[0] > PATIENCE}
    for _ in range(rounds):
        for name, function in functions.items():
            if name not in slow:
                times[name].append(seconds(function, device))
    return {name: min(values) for name, values in times.items()}


def keep_memory() -> None:
    """Have the C library keep freed memory, as other allocators do, not hand it back at once.

    What the system takes for handing it out and clearing it anew is then not measured.

    Raises:
        ValueError: if the C library is not glibc.
    """
    max_mapped, trim_threshold = -4, -1
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError, OSError):
        raise ValueError('--keep-memory needs glibc, whose mallopt was not found') from None
    if not (mallopt(max_mapped, 0) and mallopt(trim_threshold, -1)):
        raise ValueError("--keep-memory: the C library's mallopt refused its settings")


def hold_to_avx2() -> None:
    """Have PyTorch, its libraries and the C++ kernels use AVX2 and nothing wider.

    That is what processors without AVX-512 have. To be called before anything is computed.

    Raises:
        ValueError: if the processor has no AVX2, or PyTorch has chosen already.
    """
    from mmseg_arta.ops.library import cpu

    os.environ |= {
        'ATEN_CPU_CAPABILITY': 'avx2',
        'MKL_ENABLE_INSTRUCTIONS': 'AVX2',
        'ONEDNN_MAX_CPU_ISA': 'AVX2',
    }
    chosen = torch.backends.cpu.get_cpu_capability()
    refused = not cpu.unusable() and not cpu.use('avx2')
    if chosen != 'AVX2' or refused:
        raise ValueError(f'--avx2: the processor has no AVX2, or PyTorch uses {chosen} already')


def copy_bandwidth(device: str, size: int = 1 << 26) -> float:
    """Bytes per second that a large copy reads and writes."""
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    least = interleaved({'copy': lambda: target.copy_(source)}, device, 7)['copy']
    return 2 * size / least


def matrix_rate(device: str, dtype: torch.dtype, side: int = 1024) -> float:
    """Multiply-accumulates per second of a large matrix product."""
    side = side * 4 if device == 'cuda' else side
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    least = interleaved({'product': lambda: a @ b}, device, 7)['product']
    return side**3 / least


def machine(device: str) -> dict[str, Any]:
    """What the numbers were measured on."""
    # Here, as the package computes when it is imported: see hold_to_avx2.
    from mmseg_arta.analysis.benchmark.machine import machine

    return machine(device)


def write(name: str, device: str, dtype: str, result: Mapping[str, Any], folder: Path) -> Path:
    """Save a result, whole or not at all, under a name that says what it was measured with."""
    from mmseg_arta.files import write_text

    folder.mkdir(parents=True, exist_ok=True)
    where = device
    if device == 'cuda':
        where = torch.cuda.get_device_name(0).replace(' ', '-')
    version = torch.__version__.partition('+')[0]
    path = folder / f'{name}_torch-{version}_{where}_{dtype}.json'
    write_text(path, json.dumps({'machine': machine(device), **result}, indent=1) + '\n')
    return path


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in columns, the first one the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return '\n'.join(
        '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
