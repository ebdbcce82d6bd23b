"""Write a model as a file that runs without this package, for images of one size.

    python tools/export.py arta-tiny_mask2former_4xb8-80k_ade20k-512x512 --checkpoint CKPT \\
        --allocation 0.3 --shape 512 512 --format onnx --out arta.onnx

The file takes float32 pixels from 0 to 255, RGB, and gives class scores of every pixel; mean,
deviation, classes and colours are in it. Formats: torch (torch.export, needs PyTorch), aoti
(compiled for this machine by AOTInductor, needs PyTorch) and onnx. The file is compared with the
model before it gets its name. tools/run_exported.py segments images with it.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.logging import MMLogger

import mmseg_arta  # noqa: F401  registers the models
from mmseg_arta.analysis.benchmark.subjects import check_codebase
from mmseg_arta.analysis.class_names import class_names
from mmseg_arta.analysis.exportable import exportable
from mmseg_arta.analysis.flops.count import check_allocation
from mmseg_arta.analysis.flops.load import load_config
from mmseg_arta.command_line import Parser, Settings, check_shape, run_command
from mmseg_arta.engine.export import FORMATS, export_segmentor
from mmseg_arta.files import check_writable


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser('export', description=__doc__)
    parser.add_argument('config', metavar='CONFIG', help='path or name of a config')
    add = parser.add_argument
    add('--checkpoint', metavar='FILE', help='weights; random ones without')
    add(
        '--shape',
        type=int,
        nargs=2,
        default=(512, 512),
        metavar=('H', 'W'),
        help='height and width of the images in pixels (default: 512 512)',
    )
    add('--format', choices=FORMATS, default='torch', help='of the file (default: torch)')
    add('--out', type=Path, required=True, metavar='FILE', help='ends in .pt2, or .onnx for onnx')
    add('--batch-size', type=int, default=1, metavar='N', help='images at a time (default: 1)')
    add(
        '--allocation',
        default='model',
        metavar='NAME',
        help='which tokens get finer ones: full: all; caps: the largest shares of training; a '
        "number such as 0.3: that share, the highest scores; model: the model's policy (default), "
        'which must fix the number of tokens',
    )
    add('--no-check', action='store_true', help='do not compare the file with the model')
    add('--cfg-options', nargs='+', action=Settings, metavar='KEY=VALUE', help='of the config')
    args = parser.parse_args(argv)
    if args.batch_size < 1:
        parser.error(f'--batch-size must be at least 1, found {args.batch_size}')
    if min(args.shape) < 1:
        parser.error(f'--shape takes two positive numbers, found {args.shape}')
    try:
        check_shape(args.shape, args.batch_size)
    except ValueError as error:
        parser.error(str(error))
    return args


def run(args: argparse.Namespace) -> None:
    check_writable('--out', args.out)
    check_allocation(args.allocation)
    config = load_config(args.config, args.cfg_options)
    check_codebase(args.config, config)
    module = exportable(config, args.checkpoint, args.allocation, tuple(args.shape))
    classes, palette = class_names(config, args.checkpoint)
    done = export_segmentor(
        module,
        args.out,
        args.format,
        name=Path(str(config.filename)).stem,
        batch_size=args.batch_size,
        classes=classes,
        palette=palette,
        compare=not args.no_check,
    )
    print(f'{done.path}: {done.bytes / 1e6:.1f} MB in {done.seconds:.0f} s')
    if done.difference is not None and done.same_labels is not None:
        print(
            f'compared with the model on one random image: largest difference '
            f'{done.difference:.1e} of the largest score, {100 * done.same_labels:.3f} % of the '
            'labels are the same'
        )


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    return run_command('export', lambda: run(args))


if __name__ == '__main__':
    sys.exit(main())
