"""Count all variants and write the page that sets them beside the published figures.

Chapters that are not counted anew stand as they were counted before:

    python tools/fidelity.py --family arta
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import mmseg_arta  # noqa: F401  registers the models
from mmseg_arta.analysis.family import Row
from mmseg_arta.analysis.fidelity import (
    CHAPTERS,
    measure,
    read_measurements,
    render,
    write_measurements,
)
from mmseg_arta.command_line import Parser, run_command
from mmseg_arta.files import check_folder, check_writable, write_text

DOCS = Path(__file__).resolve().parents[1] / 'docs'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = Parser('fidelity', description=__doc__)
    parser.add_argument(
        '--family',
        nargs='+',
        choices=list(CHAPTERS),
        default=list(CHAPTERS),
        metavar='NAME',
        help=f'chapters to count anew: {", ".join(CHAPTERS)} (default: all)',
    )
    parser.add_argument(
        '--output',
        type=Path,
        default=DOCS / 'fidelity.md',
        metavar='FILE',
        help='page to write; the numbers are kept in a .json file beside it '
        '(default: docs/fidelity.md)',
    )
    return parser.parse_args(argv)


def show_progress(row: Row) -> None:
    height, width = row.shape
    print(f'{row.name}, {height}x{width}, {row.allocation}', file=sys.stderr, flush=True)


def run(args: argparse.Namespace) -> int:
    """Count and write; 1 if something could not be counted."""
    numbers = args.output.with_suffix('.json')
    if numbers == args.output:
        raise ValueError(f'--output {args.output}: the numbers go to a file of that name')
    check_folder('--output', args.output.parent)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    for path in (args.output, numbers):
        check_writable('--output', path)
    failures = []
    measured = read_measurements(numbers)
    for name in args.family:
        for row, measurement in measure(CHAPTERS[name], show_progress):
            if isinstance(measurement, str):
                failures.append(f'{row.name}: {measurement}')
                continue
            measured[row.key] = measurement
            # After every row, so that a broken-off run leaves what it counted.
            write_measurements(numbers, measured)
    known = {row.key for chapter in CHAPTERS.values() for row in chapter.rows}
    measured = {key: value for key, value in measured.items() if key in known}
    write_measurements(numbers, measured)
    write_text(args.output, render(CHAPTERS, measured))
    for failure in dict.fromkeys(failures):
        print(f'fidelity: not counted: {failure}', file=sys.stderr)
    print(args.output)
    return 1 if failures else 0


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    return run_command('fidelity', lambda: run(args))


if __name__ == '__main__':
    sys.exit(main())
