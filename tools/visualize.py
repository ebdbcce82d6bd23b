"""Draw what a model makes of images: tokens, scores, prediction and errors.

One PNG file per image, and a contact sheet if there are several:

    python tools/visualize.py CONFIG street.jpg --checkpoint FILE
    python tools/visualize.py CONFIG photos/ --checkpoint FILE --out pictures
    python tools/visualize.py CONFIG dataset --checkpoint FILE --images 8

Beside another model, with boxes where the first one alone is right:

    python tools/visualize.py lrformer-s_lrhead_4xb4-160k_ade20k-512x512 dataset \\
        --checkpoint FILE --against mmseg::segformer/segformer_mit-b2_8xb2-160k_ade20k-512x512.py \\
        --against-checkpoint FILE

Some panels alone, in one row per image and one file:

    python tools/visualize.py CONFIG a.png b.png --checkpoint FILE \\
        --panels image scores:1 cells prediction --out row.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import mmseg_arta  # noqa: F401  registers the models
from mmseg_arta.analysis.devices import check_device
from mmseg_arta.analysis.flops.count import MODES, allocating_modules, check_allocation
from mmseg_arta.analysis.visualization import (
    PANELS,
    Sheets,
    Subject,
    choose,
    find_items,
    panel_rows,
    write,
)
from mmseg_arta.command_line import Parser, Settings, run_command
from mmseg_arta.files import check_folder

# Pixels; a picture has a dozen panels and more.
MOST_WIDTH = 4096


def panel(text: str) -> str:
    """A name of a panel, maybe with a number from 1."""
    key, colon, number = text.partition(':')
    if key not in PANELS or (colon and (not number.isdecimal() or int(number) < 1)):
        raise argparse.ArgumentTypeError(f'expected names of {", ".join(PANELS)}, found {text!r}')
    return text


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    shown = '\n'.join(f'  {name:14}{text}' for name, text in PANELS.items())
    parser = Parser('visualize', description=__doc__, epilog=f'panels:\n{shown}')
    add = parser.add_argument
    add('config', metavar='CONFIG', help='path or name of a config')
    add(
        'sources',
        nargs='+',
        metavar='SOURCE',
        help="images, folders of images, or 'dataset', the config's test set with ground truth",
    )
    add('--checkpoint', metavar='FILE', help='weights of the model; random ones without')
    add('--against', metavar='CONFIG', help='a second model, of the same classes')
    add('--against-checkpoint', metavar='FILE', help='its weights')
    add(
        '--out',
        type=Path,
        default=Path('work_dirs/visualize'),
        metavar='DIR|FILE.png',
        help='folder for a file per image and sheet.png; or one file. A sheet holds twelve images: '
        'of more, there are FILE_1.png, FILE_2.png and so on (default: %(default)s)',
    )
    add('--images', type=int, metavar='N', help='draw at most so many, spread evenly')
    add(
        '--panels', nargs='+', type=panel, metavar='NAME', help='these alone, in one row; see below'
    )
    add('--panel-width', type=int, metavar='PX', help='width of a panel in pixels')
    add('--colors', type=int, metavar='N', help='reduce files to N colours, 2 to 256')
    add(
        '--mode',
        choices=MODES,
        default='config',
        help='whole: the image at once; slide: in windows; config: as test_cfg says (default)',
    )
    add(
        '--allocation',
        default='model',
        metavar='NAME',
        help='who gets finer tokens: full, caps, a share such as 0.3, or model (default); of '
        '--against too, if that allocates tokens',
    )
    add('--device', default='cpu', metavar='NAME', help='cpu (default), cuda or cuda:N')
    add('--cfg-options', nargs='+', action=Settings, metavar='KEY=VALUE', help='of both configs')
    return parser.parse_args(argv)


def check(args: argparse.Namespace) -> None:
    """What can be known before anything is built."""
    check_device(args.device)
    check_allocation(args.allocation)
    for name, least in (('images', 1), ('panel_width', 40), ('colors', 2)):
        value = getattr(args, name)
        if value is not None and value < least:
            option = name.replace('_', '-')
            raise ValueError(f'--{option} must be at least {least}, found {value}')
    for name, most in (('panel_width', MOST_WIDTH), ('colors', 256)):
        value = getattr(args, name)
        if value is not None and value > most:
            option = name.replace('_', '-')
            raise ValueError(f'--{option} must be at most {most}, found {value}')
    if args.out.suffix and args.out.suffix.lower() != '.png' and not args.out.is_dir():
        raise ValueError(f'--out {args.out}: expected a folder or a name that ends in .png')
    one_file = args.out.suffix.lower() == '.png'
    check_folder('--out', args.out.parent if one_file else args.out)
    if args.against_checkpoint and not args.against:
        raise ValueError('--against-checkpoint needs --against')


def run(args: argparse.Namespace) -> list[Path]:
    """Draw; the files written."""
    check(args)
    subject = Subject(
        args.config, args.checkpoint, args.cfg_options, args.device, args.mode, args.allocation
    )
    other = None
    if args.against:
        other = Subject(
            args.against, args.against_checkpoint, args.cfg_options, args.device, args.mode
        )
        if tuple(other.classes) != tuple(subject.classes):
            raise ValueError(
                f'--against {args.against}: expected a model of the same {len(subject.classes)} '
                f'classes, found {len(other.classes)} others'
            )
        if allocating_modules(other.model):
            other.allocation = args.allocation
        elif args.allocation != 'model':
            print(
                f'visualize: {args.against} allocates no tokens: --allocation is of the first '
                'model alone',
                file=sys.stderr,
            )
    items = find_items(args.sources, subject, args.images)
    if args.checkpoint is None or (args.against and args.against_checkpoint is None):
        print('visualize: random weights: predictions and scores mean nothing', file=sys.stderr)
    one_file = args.out.suffix.lower() == '.png'
    sheets = None
    if len(items) > 1:
        path = args.out if one_file else args.out / 'sheet.png'
        sheets = Sheets(path, len(items), args.panels, args.panel_width, args.colors)
    written = []
    for item in items:
        rows, legend = panel_rows(item, subject, other)
        if sheets is not None:
            sheets.add(rows, legend)
        if sheets is None or not one_file:
            chosen = [choose(rows, args.panels)] if args.panels else rows
            path = args.out if one_file else args.out / f'{item.name}.png'
            write(chosen, legend, path, args.panel_width, args.colors)
            written.append(path)
            print(path, flush=True)
    for path in sheets.written if sheets is not None else ():
        print(path)
    return written


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)

    def command() -> None:
        run(args)

    return run_command('visualize', command)


if __name__ == '__main__':
    sys.exit(main())
