"""Compare models: speed and memory at inference or in training, and operations.

Configs of this package or of MMSegmentation, by path or by name, one or more; what comes after a
config as KEY=VALUE is set in it alone. Ratios are to the first:

    python tools/benchmark.py arta-tiny_mask2former_4xb8-80k_ade20k-512x512 \\
        mmseg::segformer/segformer_mit-b3_8xb2-160k_ade20k-512x512.py \\
        model.decode_head.channels=768 \\
        --protocol inference flops --shape 512 512 --batch-size 1 --allocation caps

Throughput of STEP by the placement of its heads, and by the thresholds that merge patches:

    python tools/benchmark.py step-8-t6899_vit-b16_1xb4-160k_ade20k-512x512 \\
        --halt-after 8 --halt-after 6,8 --thresholds 0.6,0.8,0.9,0.9 --shape 512 512
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import mmseg_arta  # noqa: F401  registers the models
from mmseg_arta.analysis.benchmark import PROTOCOLS, Conditions, Result, read_models
from mmseg_arta.analysis.benchmark import plot as plotting
from mmseg_arta.analysis.benchmark.crew import Progress
from mmseg_arta.analysis.benchmark.machine import machine
from mmseg_arta.analysis.benchmark.report import markdown, plain, terminal
from mmseg_arta.analysis.benchmark.run import DEFAULTS, run_protocol
from mmseg_arta.analysis.benchmark.subjects import CLOCKS, DTYPES, parse_thresholds
from mmseg_arta.analysis.flops.count import MODES
from mmseg_arta.command_line import Parser, Settings, check_shape, run_command
from mmseg_arta.files import check_writable, write_json, write_text


def blocks(text: str) -> tuple[int, ...]:
    """'8,16' to (8, 16)."""
    try:
        return tuple(int(item) for item in text.split(','))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected blocks such as '8,16', found {text!r}"
        ) from None


def thresholds(text: str) -> dict[int, float]:
    """'0.6,0.8' or '2:0.6,8:0.9' to thresholds by group size."""
    try:
        return parse_thresholds(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers such as '0.6,0.8,0.9,0.9' or '2:0.4', one per side of groups (2, 4, "
            f'8 and 16 patches), found {text!r}'
        ) from None


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser('benchmark', description=__doc__)
    parser.add_argument(
        'configs', nargs='+', metavar='CONFIG', help='path or name; KEY=VALUE after it changes it'
    )
    add = parser.add_argument
    add(
        '--protocol',
        nargs='+',
        choices=PROTOCOLS,
        help='inference: speed and memory (default); train: memory and time of training steps; '
        'flops: operations',
    )
    add('--train', action='store_true', help='the same as --protocol train, or beside others')
    add(
        '--checkpoint',
        nargs='+',
        default=[],
        metavar='FILE',
        help="weights, one per config; '-' for random ones",
    )
    add(
        '--allocation',
        nargs='+',
        default=[],
        metavar='NAME',
        help="who gets finer tokens: full, caps, a share such as 0.3, or model for the model's own "
        'policy (default); one for all models that allocate, or one per config',
    )
    add('--shape', type=int, nargs='+', metavar='N', help='height and width of the images, pixels')
    add('--batch-size', type=int, nargs='+', metavar='N', help='images per step; a run for each')
    add('--device', default='cpu', help="'cpu' (default), 'cuda' or 'cuda:N'")
    add('--dtype', choices=DTYPES, default='fp32', help='number type (default: fp32)')
    add('--compile', action='store_true', help='by torch.compile')
    add('--cuda-graph', action='store_true', help='predictions by CUDA graphs; inference alone')
    add('--mode', choices=MODES, default='whole', help='of inference (default: whole)')
    add(
        '--images',
        metavar='DIR|dataset:K',
        help="a folder, or K images of the first config's validation set; default: random ones",
    )
    add('--steps', type=int, metavar='N', help='measured steps')
    add('--warmup', type=int, metavar='N', help='steps before them')
    add(
        '--clock',
        choices=CLOCKS,
        default='wall',
        help='processor: the time of the process alone, where others run too; one CPU thread',
    )
    add('--halt-after', type=blocks, action='append', default=[], metavar='N,N', help='see above')
    add('--thresholds', type=thresholds, action='append', default=[], metavar='X,X', help='same')
    add('--miou', nargs='+', default=[], metavar='X', help="per config, '-' for its metafile's")
    add('--label', nargs='+', default=[], metavar='NAME', help='per config')
    add('--cfg-options', nargs='+', action=Settings, metavar='KEY=VALUE', help='of all configs')
    add('--json', type=Path, metavar='FILE', help='write all figures')
    add('--markdown', type=Path, metavar='FILE', help='write the tables')
    add('--plot', type=Path, metavar='FILE', help='draw mIoU against GFLOPs, FPS and memory')
    args = parser.parse_args(argv)
    args.protocols = list(dict.fromkeys([*(args.protocol or []), *['train'] * args.train]))
    args.protocols = args.protocols or ['inference']
    if args.plot and 'flops' not in args.protocols:
        args.protocols.append('flops')
    return args


def announce(protocol: str, conditions: Conditions, steps: int, warmup: int) -> Progress:
    """What begins, and a bar where there is a terminal."""
    height, width = conditions.shape
    says = f'{protocol}: {conditions.device}, {height}x{width} px'
    if protocol != 'flops':
        says += f', batch {conditions.batch_size}, {steps} steps after {warmup}'
    terminal = sys.stderr.isatty()

    def show(done: int, total: int) -> None:
        bar = f'[{"#" * (30 * done // max(total, 1)):.<30}] {done}/{total}'
        if terminal:
            end = '\n' if done == total else ''
            print(f'\r{says} {bar}', end=end, file=sys.stderr, flush=True)
        elif done == 0:
            print(says, file=sys.stderr, flush=True)

    if terminal:
        print(f'{says} [{"builds":.^30}]', end='', file=sys.stderr, flush=True)
    return show


def check(args: argparse.Namespace) -> None:
    """What can be known before anything is built."""
    for name in ('json', 'markdown', 'plot'):
        if getattr(args, name):
            check_writable(f'--{name}', getattr(args, name))
    if args.plot and args.plot.suffix.lower() not in plotting.SUFFIXES:
        known = ', '.join(plotting.SUFFIXES)
        raise ValueError(f'--plot {args.plot}: expected a name that ends in one of {known}')
    if args.cuda_graph and 'train' in args.protocols:
        raise ValueError('--cuda-graph is of inference, not of --protocol train')
    for name, least in (('steps', 1), ('warmup', 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ValueError(f'--{name} must be at least {least}, found {value}')


def run(args: argparse.Namespace) -> list[Result]:
    """Measure, print and write."""
    check(args)
    first = DEFAULTS[args.protocols[0]]
    shape = tuple(args.shape or first.shape)
    conditions = [
        Conditions(
            shape,
            size,
            args.device,
            args.dtype,
            args.compile,
            args.mode,
            args.clock,
            args.cuda_graph,
        )
        for size in args.batch_size or (1,)
    ]
    check_shape(shape)
    models = read_models(
        args.configs,
        checkpoints=args.checkpoint,
        allocations=args.allocation,
        mious=args.miou,
        labels=args.label,
        options=args.cfg_options,
        halt_after=args.halt_after,
        thresholds=args.thresholds,
    )
    if args.plot and all(model.miou is None for model in models):
        raise ValueError('--plot: the mIoU of no model is known; give --miou')
    results = []
    for protocol in args.protocols:
        sizes = args.batch_size or DEFAULTS[protocol].batch_sizes
        result = run_protocol(
            protocol,
            models,
            conditions[0],
            sizes,
            args.images,
            args.steps,
            args.warmup,
            announce,
        )
        print(terminal([result]), end='\n\n', flush=True)
        results.append(result)
    where = machine(args.device)
    if args.json:
        write_json(args.json, plain(results, where))
    if args.markdown:
        write_text(args.markdown, markdown(results, where))
    if args.plot:
        plotting.draw(results, args.plot)
    return results


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)

    def command() -> int:
        rows = [row for result in run(args) for row in result.rows]
        return int(any(row.failure.startswith('failed') for row in rows))

    return run_command('benchmark', command)


if __name__ == '__main__':
    sys.exit(main())
