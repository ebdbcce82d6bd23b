"""How many kernels a GPU would have to start for a prediction or a training step.

Counted on any machine, by component: operators, those that start a kernel, waits of the host for
a value on the device, and copies of host values to it. Beside them stands the time to start that
many kernels, and the least time that the arithmetic and the memory of a card need for them.

    python benchmarks/launches.py arta-tiny_mask2former_4xb8-80k_ade20k-512x512 --allocation 0.3
    python benchmarks/launches.py lrformer-s_lrhead_4xb4-160k_ade20k-512x512 --train --card h100
    python benchmarks/launches.py lrformer-s_lrhead_4xb4-160k_ade20k-512x512 --compile

Configs are those of tools/benchmark.py. On a CPU some operators are other ones than on a GPU, but
about as many. --compile counts what is left after `torch.compile`, here, on a CPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.measure import machine, table
from mmseg_arta.analysis.benchmark.pictures import store_pictures
from mmseg_arta.analysis.benchmark.runner import Runner
from mmseg_arta.analysis.benchmark.subjects import Conditions, read_models
from mmseg_arta.analysis.compiled_launches import GENERATED
from mmseg_arta.analysis.launches import CARDS, LAUNCH, LaunchCounter, Launches
from mmseg_arta.command_line import Parser, check_shape, run_command, whole
from mmseg_arta.files import check_writable, write_json


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser('launches', description=__doc__)
    parser.add_argument('configs', nargs='+', metavar='CONFIG')
    parser.add_argument('--allocation', nargs='+', default=(), metavar='NAME')
    parser.add_argument('--shape', type=whole(), nargs=2, default=(512, 512), metavar=('H', 'W'))
    parser.add_argument('--batch-size', type=whole(), default=1, metavar='N')
    parser.add_argument('--train', action='store_true', help='a training step')
    parser.add_argument(
        '--compile', action='store_true', help='also predictions of the compiled model (minutes)'
    )
    parser.add_argument('--dtype', choices=('fp32', 'tf32', 'bf16', 'fp16'), default='fp32')
    parser.add_argument('--card', choices=CARDS, default='h100')
    parser.add_argument(
        '--operators',
        type=whole(0),
        default=0,
        metavar='N',
        help='list the N most frequent, and waits',
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all counts')
    return parser.parse_args(argv)


def row(name: str, counts: Launches, args: argparse.Namespace) -> list[str]:
    milliseconds = [counts.seconds_to_launch(), counts.roofline(CARDS[args.card], args.dtype)]
    numbers = [counts.dispatched, counts.launched, counts.synced, counts.copied]
    return [name, *map(str, numbers), *(f'{1e3 * value:.2f}' for value in milliseconds)]


def report(label: str, found: LaunchCounter, args: argparse.Namespace) -> str:
    head = ['component', 'operators', 'kernels', 'waits', 'copies', 'launching (ms)']
    rows = [[*head, f'{args.card}, {args.dtype} (ms)']]
    rows += [row(name, counts, args) for name, counts in found.parts.items()]
    rows.append(row('all', found.total, args))
    lines = [label, table(rows)]
    if args.operators:
        frequent = sorted(found.names.items(), key=lambda item: -item[1])[: args.operators]
        lines.append(', '.join(f'{name} {count}' for name, count in frequent))
        lines += [f'{count} x {what}' for what, count in sorted(found.waits.items())]
    return '\n'.join(lines)


def of_compiled(found: Counter[str], most: int) -> str:
    """A line about a compiled model, one about its most frequent operators."""
    total, made = found.total(), found[GENERATED]
    lines = [f'compiled: {total} kernels, {made} of them made by the compiler']
    if most:
        rest = [item for item in found.most_common() if item[0] != GENERATED]
        lines.append(', '.join(f'{name} {count}' for name, count in rest[:most]))
    return '\n'.join(lines)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Count, print, and gather what is to be written."""
    dtype = 'fp32' if args.dtype == 'tf32' else args.dtype  # the same operators
    conditions = Conditions(tuple(args.shape), args.batch_size, dtype=dtype, compile=args.compile)
    models = read_models(args.configs, allocations=args.allocation)
    gathered: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        pictures = store_pictures(None, conditions.shape, Path(folder), args.batch_size)
        for model in models:
            runner = Runner(model, conditions, pictures)
            # What is made once and kept is no part of a step.
            runner.launches(0, args.train)
            found = runner.launches(0, args.train)
            print(report(model.label, found, args), flush=True)
            compiled: Counter[str] = Counter()
            if args.compile:
                compiled = runner.compiled_launches(0)
                print(of_compiled(compiled, args.operators), flush=True)
            print(flush=True)
            runner.close()
            parts = {name: asdict(counts) for name, counts in found.parts.items()}
            gathered[model.label] = dict(
                config=model.config,
                allocation=model.allocation,
                all=asdict(found.total),
                parts=parts,
                operators=found.names,
                waits=found.waits,
            )
            if args.compile:
                gathered[model.label]['compiled'] = dict(compiled)
    return gathered


def run(args: argparse.Namespace) -> None:
    """Check, count, print and write."""
    check_shape(args.shape, args.batch_size)
    if args.json:
        check_writable('--json', args.json)
    gathered = measure(args)
    if args.json:
        settings = dict(shape=args.shape, batch_size=args.batch_size, dtype=args.dtype)
        settings |= dict(train=args.train, launch_seconds=LAUNCH)
        write_json(args.json, dict(machine=machine('cpu'), settings=settings, models=gathered))


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    return run_command('launches', lambda: run(args))


if __name__ == '__main__':
    sys.exit(main())
