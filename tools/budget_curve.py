"""One checkpoint under budgets from few tokens to all: accuracy, operations and time.

    python tools/budget_curve.py CONFIG --checkpoint FILE --plot budgets.png

Within every budget the highest scores get finer tokens, or anyone at random, equally many of every
size: between the two curves lies what the scores are worth. Needs no training; what the model does
by its own policy is the first row.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.logging import MMLogger

import mmseg_arta  # noqa: F401  registers the models
from mmseg_arta.analysis.benchmark.plot import SUFFIXES
from mmseg_arta.analysis.benchmark.subjects import CLOCKS, check_codebase
from mmseg_arta.analysis.budget import CHOICES, Point, draw, markdown, measure, plain
from mmseg_arta.analysis.budget.report import line
from mmseg_arta.analysis.devices import check_device
from mmseg_arta.analysis.flops.count import MODES
from mmseg_arta.analysis.flops.load import build_model, load_config
from mmseg_arta.analysis.flops.samples import spread_numbers, validation_set
from mmseg_arta.analysis.passes import window_by_window
from mmseg_arta.command_line import Parser, Settings, check_windows, run_command
from mmseg_arta.files import check_writable, write_json, write_text

SHARES = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser('budget_curve', description=__doc__)
    add = parser.add_argument
    add('config', metavar='CONFIG', help='path or name of a config whose model allocates tokens')
    add('--checkpoint', required=True, metavar='FILE', help='weights of the model')
    add(
        '--shares',
        type=float,
        nargs='+',
        default=SHARES,
        metavar='X',
        help='of all tokens that an image can have, above 0 and up to 1 (default: %(default)s)',
    )
    add(
        '--choose',
        nargs='+',
        choices=CHOICES,
        default=CHOICES,
        help='who gets finer tokens (default: both)',
    )
    add('--images', type=int, metavar='N', help='of the test set, spread evenly; default: all')
    add('--timed', type=int, default=5, metavar='N', help='of these that are timed (default: 5)')
    add('--device', default='cpu', metavar='NAME', help='cpu (default), cuda or cuda:N')
    add(
        '--mode',
        choices=MODES,
        default='config',
        help='whole: the image at once; slide: in windows; config: as test_cfg says (default)',
    )
    add('--clock', choices=CLOCKS, default='wall', help='processor: the time of the process alone')
    add('--json', type=Path, metavar='FILE', help='write all figures')
    add('--markdown', type=Path, metavar='FILE', help='write the table')
    add('--plot', type=Path, metavar='FILE', help='draw mIoU against operations')
    add('--cfg-options', nargs='+', action=Settings, metavar='KEY=VALUE')
    return parser.parse_args(argv)


def check(args: argparse.Namespace) -> None:
    """What can be known before anything is built."""
    kind = torch.device(check_device(args.device)).type
    if args.clock == 'processor' and (kind != 'cpu' or torch.get_num_threads() > 1):
        raise ValueError('--clock processor needs a CPU and one thread (OMP_NUM_THREADS=1)')
    for share in args.shares:
        if not (math.isfinite(share) and 0 < share <= 1):
            raise ValueError(f'--shares must be above 0 and at most 1, found {share:g}')
    if args.images is not None and args.images < 1:
        raise ValueError(f'--images must be at least 1, found {args.images}')
    if args.timed < 0:
        raise ValueError(f'--timed must be at least 0, found {args.timed}')
    for name in ('json', 'markdown', 'plot'):
        if getattr(args, name):
            check_writable(f'--{name}', getattr(args, name))
    if args.plot and args.plot.suffix.lower() not in SUFFIXES:
        known = ', '.join(SUFFIXES)
        raise ValueError(f'--plot {args.plot}: expected a name that ends in one of {known}')
    if not Path(args.checkpoint).is_file() and '://' not in args.checkpoint:
        raise FileNotFoundError(f'checkpoint {args.checkpoint!r} does not exist')


def run(args: argparse.Namespace) -> list[Point]:
    """Measure, print and write."""
    check(args)
    MMLogger.get_current_instance().setLevel('ERROR')
    config = load_config(args.config, args.cfg_options)
    check_codebase(args.config, config)
    check_windows(config, args.mode)
    model = build_model(config, args.checkpoint).to(args.device)
    data = validation_set(config, 'test_dataloader')
    numbers = spread_numbers(args.images or len(data), len(data))
    print(line(None))
    with window_by_window(model, args.mode):
        points = measure(
            model,
            data,
            numbers,
            sorted(set(args.shares)),
            args.choose,
            args.timed,
            time.perf_counter if args.clock == 'wall' else time.process_time,
            lambda point: print(line(point), flush=True),
        )
    if args.json:
        about = dict(config=Path(args.config).stem, mode=args.mode, images=len(numbers))
        write_json(args.json, dict(about, points=plain(points)))
    if args.markdown:
        write_text(args.markdown, markdown(points))
    if args.plot:
        draw(points, args.plot)
    return points


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)

    def command() -> None:
        run(args)

    return run_command('budget_curve', command)


if __name__ == '__main__':
    sys.exit(main())
