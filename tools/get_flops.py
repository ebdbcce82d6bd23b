"""Count the operations and parameters of a config's model at inference, by component.

Two ways of counting stand side by side: what really runs, and what the papers count. Any
config of this package or of MMSegmentation will do, by path or by name:

    python tools/get_flops.py configs/arta/arta-tiny_mask2former_4xb8-80k_ade20k-512x512.py \\
        --shape 512 512 --allocation caps
    python tools/get_flops.py segformer_mit-b0_8xb2-160k_ade20k-512x512 --shape 512 512
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import mmseg_arta  # noqa: F401  registers the models
from mmseg_arta.analysis.flops import count_operations
from mmseg_arta.analysis.flops.count import MODES, check_allocation
from mmseg_arta.analysis.flops.load import build_model, load_config
from mmseg_arta.analysis.flops.report import render
from mmseg_arta.analysis.flops.samples import count_samples
from mmseg_arta.command_line import Parser, Settings, check_shape, check_windows, run_command
from mmseg_arta.files import check_writable, write_json


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser('get_flops', description=__doc__)
    parser.add_argument('config', metavar='CONFIG', help='path or name of a config')
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        default=[512, 512],
        metavar=('H', 'W'),
        help='height and width of the image in pixels; one number for both (default: 512 512)',
    )
    parser.add_argument(
        '--allocation',
        default='model',
        metavar='NAME',
        help='which tokens get finer ones: full: all; caps: the largest shares of training; a '
        "number such as 0.3: that share; model: those the model's policy chooses (default)",
    )
    parser.add_argument(
        '--mode',
        choices=MODES,
        help='whole: the image at once (default); slide: in windows; config: as test_cfg says '
        '(default with --sample-size pipeline)',
    )
    parser.add_argument(
        '--dataset-samples',
        type=int,
        metavar='K',
        help="mean and deviation over K images of the config's validation set",
    )
    parser.add_argument(
        '--sample-size',
        choices=('fixed', 'pipeline'),
        default='fixed',
        help='of these images: fixed: each is resized to --shape, as the papers count (default); '
        "pipeline: as the data set's own test pipeline makes them",
    )
    parser.add_argument('--checkpoint', metavar='FILE', help='weights of the model')
    parser.add_argument('--json', metavar='FILE', help='write the result to this file too')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Settings,
        metavar='KEY=VALUE',
        help='override settings of the config',
    )
    args = parser.parse_args(argv)
    if len(args.shape) > 2 or min(args.shape) < 1:
        parser.error(f'--shape takes one or two positive numbers, found {args.shape}')
    if args.sample_size == 'pipeline' and args.dataset_samples is None:
        parser.error('--sample-size pipeline needs --dataset-samples')
    try:
        check_allocation(args.allocation)
    except ValueError as error:
        parser.error(f'--allocation: {error}')
    try:
        check_shape((args.shape[0], args.shape[-1]))
    except ValueError as error:
        parser.error(str(error))
    return args


def show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f'\r{done}/{total} images', end='\n' if done == total else '', file=sys.stderr)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Count, print, write, and return the result."""
    if args.json:
        check_writable('--json', args.json)
    config = load_config(args.config, args.cfg_options)
    mode = args.mode or ('config' if args.sample_size == 'pipeline' else 'whole')
    check_windows(config, mode)
    model = build_model(config, args.checkpoint)
    samples = None
    shape = (args.shape[0], args.shape[-1])
    if args.dataset_samples is not None:
        fixed = args.sample_size == 'fixed'
        samples = count_samples(
            model,
            config,
            args.dataset_samples,
            args.allocation,
            mode,
            show_progress,
            shape if fixed else None,
        )
        count, result = samples.mean, samples.to_dict()
    else:
        count = count_operations(model, shape, args.allocation, mode)
        result = count.to_dict()
    name = Path(config.filename).name
    print(render(count, name, samples))
    result = dict(config=name, **result)
    if args.json:
        write_json(args.json, result)
    return result


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)

    def command() -> None:
        run(args)

    return run_command('get_flops', command)


if __name__ == '__main__':
    sys.exit(main())
