"""Make a toy data set in the layout of a stock MMSegmentation or MMPretrain data set.

Street scenes, or with the layout imagenet pictures of one object each. Any config for that data
set then runs on it unchanged except for ``data_root``:

    python tools/make_toy_dataset.py data/toy --layout camvid --train 40 --val 10
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmseg_arta.command_line import Parser, run_command, whole
from mmseg_arta.datasets.toy import IMAGE_LAYOUTS, LAYOUTS, write_toy_dataset
from mmseg_arta.files import check_folder

# Pixels; drawing an image takes some hundred bytes of each.
MOST_SIDE = 4096


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser('make_toy_dataset', description=__doc__)
    parser.add_argument('root', metavar='ROOT', help='folder to create; the data_root of configs')
    parser.add_argument(
        '--layout',
        required=True,
        help=f'whose folders and labels: {", ".join((*LAYOUTS, *IMAGE_LAYOUTS))}',
    )
    parser.add_argument('--train', type=int, default=40, metavar='N', help='training images')
    parser.add_argument('--val', type=int, default=10, metavar='M', help='validation images')
    parser.add_argument(
        '--size',
        type=whole(1, MOST_SIDE),
        nargs=2,
        default=(240, 320),
        metavar=('H', 'W'),
        help='height and width of the images in pixels',
    )
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='seed of the scenes')
    parser.add_argument(
        '--overwrite', action='store_true', help='replace ROOT if this tool made it before'
    )
    return parser.parse_args(argv)


def show_progress(split: str, done: int, total: int) -> None:
    # one line that counts on a terminal, one line a split in a log
    if sys.stderr.isatty():
        print(f'\r{split}: {done}/{total} images', end='', file=sys.stderr)
    if done == total:
        print('' if sys.stderr.isatty() else f'{split}: {total} images', file=sys.stderr)


def run(args: argparse.Namespace) -> None:
    # What lies there already is looked at by the function: it knows what it may replace.
    if not Path(args.root).expanduser().exists():
        check_folder('ROOT', Path(args.root).expanduser())
    try:
        root = write_toy_dataset(
            args.root,
            args.layout,
            train=args.train,
            val=args.val,
            size=tuple(args.size),
            seed=args.seed,
            overwrite=args.overwrite,
            progress=show_progress,
        )
    except FileExistsError as error:
        hint = '' if args.overwrite or not Path(args.root).is_dir() else ' (option --overwrite)'
        raise FileExistsError(f'{error}{hint}') from error
    print(f'{args.layout} data set in {root}')


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    return run_command('make_toy_dataset', lambda: run(args))


if __name__ == '__main__':
    sys.exit(main())
