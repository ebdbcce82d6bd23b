"""Times every op on each back end against the reference and against what the machine allows.

    python benchmarks/ops.py [--device cuda] [--dtype bfloat16] [--quick]

The bound of a call is the larger of its bytes over the bandwidth of a copy and its
multiply-accumulates over the rate of a matrix product, both measured in the same run.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import measure
from benchmarks.cases import Case, cases
from mmseg_arta.analysis.devices import check_device
from mmseg_arta.command_line import Parser, check_shape, run_command, whole
from mmseg_arta.files import check_folder
from mmseg_arta.ops.backend import ENV, OPS, available_backends, device_of

SIZES = ((512, 512), (1024, 2048))
SHARES = (1.0, 0.3)
#: Bytes, and distances, that the reference may take.
MEMORY, PAIRS = 2 << 30, 1 << 27
QUICK_SIZES = ((128, 128),)
DEVICES = ('cpu', 'cuda')


def on(backend: str, function: Callable[[], object]) -> Callable[[], object]:
    """The function with that back end forced."""

    def call() -> object:
        before = os.environ.get(ENV)
        os.environ[ENV] = backend
        try:
            return function()
        finally:
            if before is None:
                del os.environ[ENV]
            else:
                os.environ[ENV] = before

    return call


def both_passes(case: Case) -> Callable[[], object]:
    def call() -> object:
        out = case.call()
        return torch.autograd.grad(out, case.leaves, torch.ones_like(out))

    return call


def without_gradients(function: Callable[[], object]) -> Callable[[], object]:
    def call() -> object:
        with torch.no_grad():
            return function()

    return call


def backends_of(case: Case, device: str) -> list[str]:
    """Back ends that can run a case on a device, the reference last.

    The reference is left out where its backward pass would need more than :data:`MEMORY`, or
    where it would compare more than :data:`PAIRS`.
    """
    reasons = available_backends()
    own = [b for b in OPS[case.op] if not reasons[b] and device_of(b) == device]
    too_much = case.reference_bytes > MEMORY or case.reference_pairs > PAIRS
    return own if own and too_much else [*own, 'reference']


def time_case(case: Case, device: str, bound: float, rounds: int) -> list[dict[str, Any]]:
    """One result for each back end, of the forward pass and of both passes together."""
    backends = backends_of(case, device)
    forward = measure.interleaved(
        {b: on(b, without_gradients(case.call)) for b in backends}, device, rounds
    )
    both = (
        measure.interleaved({b: on(b, both_passes(case)) for b in backends}, device, rounds)
        if case.leaves
        else {}
    )
    return [
        {
            'op': case.op,
            'case': case.name,
            'back end': backend,
            'forward seconds': forward[backend],
            'forward and backward seconds': both.get(backend),
            'times reference': ratio(forward, backend),
            'both times reference': ratio(both, backend),
            'bound seconds': bound,
            'share of bound': bound / forward[backend],
            'bytes': case.bytes,
            'macs': case.macs,
        }
        for backend in backends
    ]


def ratio(times: dict[str, float], backend: str) -> float | None:
    """How many times as fast as the reference a back end is; None where either was not timed."""
    if 'reference' not in times or backend not in times:
        return None
    return times['reference'] / times[backend]


def run(
    device: str,
    dtype: torch.dtype,
    sizes: tuple[tuple[int, int], ...] = SIZES,
    shares: tuple[float, ...] = SHARES,
    batch: int = 1,
    rounds: int = 5,
) -> dict[str, Any]:
    """All ops at all sizes.

    Args:
        device: 'cpu' or 'cuda'.
        dtype: number type of attention and images; the decoder computes in float32.
        sizes: ``(height, width)`` of images.
        shares: of tokens that have finer ones.
        batch: images.
        rounds: calls of which the fastest counts.
    """
    bandwidth = measure.copy_bandwidth(device)
    rate = measure.matrix_rate(device, dtype)
    results = []
    for size in sizes:
        for share in shares:
            for case in cases(size, share, batch, device, dtype):
                bound = max(case.bytes / bandwidth, case.macs / rate)
                for result in time_case(case, device, bound, rounds):
                    results.append({'size': list(size), 'share': share, **result})
    limits = {'copy bytes per second': bandwidth, 'macs per second': rate}
    return {'limits': limits, 'batch': batch, 'results': results}


def times(factor: float | None) -> str:
    return '' if factor is None else f'{factor:.1f}'


def rows(results: list[dict[str, Any]]) -> list[list[str]]:
    """A table of results, times in milliseconds."""
    head = ['size', 'share', 'op', 'case', 'back end', 'ms', 'x ref', 'of bound', 'fwd+bwd x ref']
    return [
        head,
        *(
            [
                '{}x{}'.format(*r['size']),
                f'{r["share"]:.0%}',
                r['op'],
                r['case'],
                r['back end'],
                f'{r["forward seconds"] * 1e3:.2f}',
                times(r['times reference']),
                f'{r["share of bound"]:.0%}',
                times(r['both times reference']),
            ]
            for r in results
        ),
    ]


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser('ops', description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--device', choices=DEVICES, default='cuda' if torch.cuda.is_available() else 'cpu')
    add('--dtype', default='float32', choices=['float32', 'float16', 'bfloat16'])
    add('--batch', type=whole(), default=1, metavar='N', help='images (default: 1)')
    add('--rounds', type=whole(), default=5, metavar='N', help='the fastest counts (default: 5)')
    add('--quick', action='store_true', help='one small size, to try it out')
    add('--out', type=Path, default=measure.RESULTS, help='folder for the JSON')
    return parser.parse_args(arguments)


def measure_and_write(args: argparse.Namespace) -> None:
    """Check, measure, print and write."""
    sizes = QUICK_SIZES if args.quick else SIZES
    check_device(args.device)
    check_folder('--out', args.out)
    for size in sizes:
        check_shape(size, args.batch, f'--batch {args.batch}, size')
    dtype = getattr(torch, args.dtype)
    result = run(args.device, dtype, sizes, batch=args.batch, rounds=args.rounds)
    print(measure.table(rows(result['results'])))
    name = 'ops-quick' if args.quick else 'ops'
    print(f'\n{measure.write(name, args.device, args.dtype, result, args.out)}')


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_args(arguments)
    return run_command('ops', lambda: measure_and_write(args))


if __name__ == '__main__':
    sys.exit(main())
