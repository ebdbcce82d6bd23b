"""Which kernels of a prediction take most time on a GPU, and how long it waits between them.

    python benchmarks/gpu/profile_model.py CONFIG [--allocation 0.3] [--dtype bf16]

On a CPU the same table is of operators, to try the command out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.measure import machine, table
from mmseg_arta.analysis.benchmark.pictures import store_pictures
from mmseg_arta.analysis.benchmark.runner import Runner
from mmseg_arta.analysis.benchmark.subjects import DTYPES, Conditions, read_models
from mmseg_arta.files import check_writable, write_json

#: Kernels that are listed.
LISTED = 20
#: Gaps longer than this are counted, microseconds.
GAP = 5.0

#: Name, begin and end, microseconds.
Span = tuple[str, float, float]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', metavar='CONFIG')
    add('--allocation', default='model', metavar='NAME')
    add('--shape', type=int, nargs=2, default=(1024, 2048), metavar=('H', 'W'))
    add('--batch-size', type=int, default=2, metavar='N')
    add('--device', default='cuda', choices=('cuda', 'cpu'))
    add('--dtype', default='fp32', choices=DTYPES)
    add('--json', type=Path, metavar='FILE', help='write all kernels')
    return parser.parse_args(argv)


def spans(events: Iterable[Any], device: str) -> list[Span]:
    """What ran on the device, by begin; on a CPU operators that no other one called."""
    found = []
    for event in events:
        on_gpu = event.device_type != torch.autograd.DeviceType.CPU
        if on_gpu != (device == 'cuda') or (not on_gpu and event.cpu_parent is not None):
            continue
        found.append((event.name, event.time_range.start, event.time_range.end))
    return sorted(found, key=lambda span: span[1])


def summarize(found: Sequence[Span]) -> dict[str, Any]:
    """Time by name, and the time in which nothing ran.

    Args:
        found: what ran, by begin.

    Returns:
        ``kernels`` ``{name: [calls, microseconds]}``, the longest first; ``busy``, ``gaps`` (how
        many are longer than :data:`GAP`), ``idle`` (all gaps together) and ``span``, microseconds.
    """
    kernels: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    busy = idle = 0.0
    gaps, end = 0, None
    for name, start, stop in found:
        kernels[name][0] += 1
        kernels[name][1] += stop - start
        if end is not None and start > end:
            idle += start - end
            gaps += start - end > GAP
        begin = start if end is None else max(start, end)
        busy += max(stop - begin, 0.0)
        end = stop if end is None else max(end, stop)
    ordered = dict(sorted(kernels.items(), key=lambda item: -item[1][1]))
    return dict(kernels=ordered, busy=busy, idle=idle, gaps=gaps, span=busy + idle)


def report(summary: dict[str, Any]) -> str:
    """The longest kernels as a table, and a line on gaps."""
    rows = [['share', 'ms', 'calls', 'name']]
    for name, (calls, duration) in list(summary['kernels'].items())[:LISTED]:
        share = duration / summary['busy'] if summary['busy'] else 0.0
        rows.append([f'{share:.1%}', f'{duration / 1e3:.3f}', str(int(calls)), name[:120]])
    count = sum(int(calls) for calls, _ in summary['kernels'].values())
    line = (
        f'{count} kernels busy for {summary["busy"] / 1e3:.2f} ms of {summary["span"] / 1e3:.2f} '
        f'ms; {summary["gaps"]} gaps longer than {GAP:g} us, {summary["idle"] / 1e3:.2f} ms idle'
    )
    return f'{table(rows)}\n{line}'


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """One prediction under PyTorch's profiler, after three others."""
    shape = (args.shape[0], args.shape[1])
    conditions = Conditions(shape, args.batch_size, args.device, args.dtype)
    model = read_models([args.config], allocations=[args.allocation])[0]
    activities = [ProfilerActivity.CPU]
    if args.device == 'cuda':
        activities.append(ProfilerActivity.CUDA)
    with tempfile.TemporaryDirectory() as folder:
        pictures = store_pictures(None, shape, Path(folder), args.batch_size)
        runner = Runner(model, conditions, pictures)
        runner.infer(0, 3)
        with profile(activities=activities) as profiler:
            runner.infer(0, 1)
        runner.close()
    return summarize(spans(profiler.events(), args.device))


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        if args.json:
            check_writable('--json', args.json)
        summary = measure(args)
    except (OSError, ValueError) as error:
        print(f'profile: error: {error}', file=sys.stderr)
        return 2
    print(report(summary))
    if args.json:
        settings = dict(config=args.config, allocation=args.allocation, shape=list(args.shape))
        settings |= dict(batch_size=args.batch_size, dtype=args.dtype)
        write_json(args.json, dict(machine=machine(args.device), settings=settings, **summary))
    return 0


if __name__ == '__main__':
    sys.exit(main())
