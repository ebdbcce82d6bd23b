"""Check all bundled configs on toy data: two iterations and a test by mim, or a reduced step.

Of every family, head and data set one config passes two training iterations and a test by stock
mim, the others a training step and a prediction at reduced depth. A second call skips what has
passed, unless the config has changed. The exit status is 1 if a config fails.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from mmseg_arta.analysis import sweep
from mmseg_arta.analysis.sweep.records import as_markdown
from mmseg_arta.command_line import Parser, run_command
from mmseg_arta.files import check_folder

CONFIGS = Path(__file__).resolve().parent.parent / 'configs'
TAIL = 30  # lines of a log


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = Parser('sweep', description=__doc__)
    parser.add_argument(
        '--configs',
        metavar='GLOB',
        default='*',
        help="names, or paths below configs, such as 'arta-tiny_*' or 'aff/*' (default: all)",
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/sweep'),
        metavar='DIR',
        help='data, logs, records and tables go there (default: %(default)s)',
    )
    parser.add_argument('--list', action='store_true', help='say what would run, and stop')
    parser.add_argument('--redo', action='store_true', help='check again what has passed')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    """Run the sweep; 1 if a config fails."""
    everything = sorted(path for path in CONFIGS.rglob('*.py') if _family(path) != '_base_')
    wanted = [path for path in everything if _matches(path, args.configs)]
    if not wanted:
        place = f'{len(everything)} configs below {CONFIGS}'
        raise ValueError(f'--configs {args.configs!r} names none of {place}')
    check_folder('--work-dir', args.work_dir)
    # What is chosen for mim among a family must not depend on what is asked for.
    families = {_family(path) for path in wanted}
    names = {path.stem for path in wanted}
    whole = sweep.make_plan(path for path in everything if _family(path) in families)
    plan = [job for job in whole if job.name in names]
    if args.list:
        for job in plan:
            print(f'{job.name}: {_intent(job)}')
        return 0
    width = len(str(len(plan)))

    def report(number: int, record: sweep.Record) -> None:
        outcome = f'{record.result}{f": {record.reason}" if record.reason else ""}'
        place = f'[{number + 1:{width}}/{len(plan)}]'
        print(
            f'{place} {record.config} by {record.how}: {outcome} ({record.seconds} s)', flush=True
        )

    records = sweep.run_plan(plan, args.work_dir, args.redo, report)
    sweep.write_tables(records, args.work_dir)
    print(f'\n{as_markdown(records)}\nThis table: {args.work_dir / "table.md"}')
    failed = [record for record in records if record.result == 'failed']
    for record in failed:
        log = args.work_dir / record.log
        tail = log.read_text(errors='replace').splitlines()[-TAIL:]
        print(f'\n{record.config} failed; the end of {log}:', file=sys.stderr)
        print('\n'.join(tail), file=sys.stderr)
    return 1 if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sweep; returns the exit status."""
    args = parse_args(argv)
    return run_command('sweep', lambda: run(args))


def _family(path: Path) -> str:
    return path.relative_to(CONFIGS).parts[0]


def _matches(path: Path, pattern: str) -> bool:
    place = path.relative_to(CONFIGS)
    names = (path.stem, path.name, str(place), str(place.with_suffix('')))
    return any(fnmatch(name, pattern) for name in names)


def _intent(job: object) -> str:
    if job.skip:
        return f'skipped: {job.skip}'
    return 'cannot be read: ' + job.error.splitlines()[-1] if job.error else job.how


if __name__ == '__main__':
    sys.exit(main())
