"""Train and test configs with several seeds at equal budget, and put them in one table.

Configs of this package or of MMSegmentation, by path or by name; what comes after a config as
KEY=VALUE is set in it alone. Every run trains and tests by mim, whole images and windows of the
training crops' size; then quality near boundaries, operations and time are measured:

    python benchmarks/league.py arta-nano_mask2former_1xb4-2k_camvid-256x256 \\
        segformer_mit-b0_1xb4-2k_camvid-256x256 optim_wrapper.optimizer.lr=1e-3 \\
        --seeds 0 1 2 --jobs 2 --work-dir work_dirs/league --results league.json

The same command goes on where it stopped; other configs and seeds with the same files add to them.
The exit status is 1 if a run has failed.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from mmengine.logging import MMLogger

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import mmseg_arta  # noqa: F401  registers the models
from mmseg_arta.analysis.benchmark.machine import machine
from mmseg_arta.analysis.devices import check_device
from mmseg_arta.analysis.league import plot, report, timing
from mmseg_arta.analysis.league.pictures import draw_sheet
from mmseg_arta.analysis.league.plan import Run, parse_seeds, read_entries, runs_in_order
from mmseg_arta.analysis.league.processes import locked
from mmseg_arta.analysis.league.records import STAGES, Store
from mmseg_arta.analysis.league.results import check_results, collect, read_results, versions
from mmseg_arta.analysis.league.run import League, make_slots, play, retry
from mmseg_arta.analysis.league.stages import Place
from mmseg_arta.analysis.league.time_left import in_words
from mmseg_arta.command_line import Settings
from mmseg_arta.files import check_writable, write_json, write_text


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'league: error: {message}\n')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('configs', nargs='*', metavar='CONFIG', help='path or name; KEY=VALUE after it changes it')
    add('--seeds', nargs='+', default=['0'], metavar='N', help='a run of every config for each (0)')
    add(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/league'),
        metavar='DIR',
        help='checkpoints, logs, predictions and records go there (default: %(default)s)',
    )
    add('--results', type=Path, metavar='FILE', help='all figures as JSON (DIR/league.json)')
    add('--markdown', type=Path, metavar='FILE', help='the table (as --results, but .md)')
    add('--plot', type=Path, metavar='FILE', help='mIoU against GMACs (as --results, but .png)')
    add('--sheet', type=Path, metavar='FILE', help='pictures (as --results, but _pictures.png)')
    add('--docs', type=Path, metavar='FILE', help='page whose lines between markers are replaced')
    add(
        '--common',
        type=Path,
        metavar='FILE',
        help='a config whose settings are those of all: data, crops, lengths',
    )
    add('--data', metavar='DIR', help='folder of the data set, in place of every data_root')
    add('--jobs', type=int, default=1, metavar='N', help='runs at once, a CPU core each (1)')
    add('--device', default='cpu', metavar='NAME', help='cpu (default), cuda or cuda:N')
    add('--pictures', type=int, default=6, metavar='N', help='images on the sheet; 0: no sheet (6)')
    add('--time-steps', type=int, default=32, metavar='N', help='timed images; 0: no times (32)')
    add(
        '--until',
        choices=STAGES,
        default=STAGES[-1],
        help='last stage of a run: training, test of whole images, test in windows, or quality '
        'near boundaries and operations (measure, so all)',
    )
    add('--retry', action='store_true', help='do again what has failed')
    add('--list', action='store_true', help='say what is done and what is left, and stop')
    add('--report', action='store_true', help='write tables and pictures of what is there, alone')
    add('--cfg-options', nargs='+', action=Settings, metavar='KEY=VALUE', help='of all configs')
    args = parser.parse_args(argv)
    inside = args.results is None
    args.results = args.work_dir / 'league.json' if inside else args.results
    args.named = [] if inside else ['results']
    for name, end in (('markdown', '.md'), ('plot', '.png'), ('sheet', '_pictures.png')):
        if getattr(args, name) is None:
            setattr(args, name, args.results.with_name(args.results.stem + end))
        else:
            args.named.append(name)
    return args


def check(args: argparse.Namespace) -> None:
    """What can be known before any config is read."""
    check_device(args.device)
    if not args.configs and not args.report:
        raise ValueError('name at least one config (--report needs none)')
    for name in ('pictures', 'time_steps'):
        if getattr(args, name) < 0:
            option = name.replace('_', '-')
            raise ValueError(f'--{option} must be at least 0, found {getattr(args, name)}')
    for name in args.named:
        check_writable(f'--{name}', getattr(args, name))
    if args.results.suffix != '.json':
        raise ValueError(f'--results {args.results}: expected a name that ends in .json')
    for name in ('plot', 'sheet'):
        if getattr(args, name).suffix != '.png':
            raise ValueError(f'--{name} {getattr(args, name)}: expected a name that ends in .png')
    if args.work_dir.exists() and not args.work_dir.is_dir():
        raise NotADirectoryError(f'--work-dir {args.work_dir} is no folder')
    if args.report and not args.work_dir.is_dir() and not args.results.is_file():
        raise FileNotFoundError(
            f'nothing to report: there is neither --work-dir {args.work_dir} nor --results '
            f'{args.results}'
        )
    if args.data is not None and not Path(args.data).is_dir():
        raise FileNotFoundError(f'--data {args.data}: there is no such folder')
    if args.docs is not None:
        check_writable('--docs', args.docs)
        report.check_page(args.docs)


class Files:
    """What a league writes; every file whole or not at all."""

    def __init__(self, args: argparse.Namespace, store: Store, runs: Sequence[Run]) -> None:
        self.args, self.store, self.runs = args, store, runs
        self.before = read_results(args.results)
        check_results(args.results, self.before, [run.entry for run in runs])

    def tables(self, times: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write JSON and Markdown; returns all results."""
        results = collect(self.runs, self.store, self.before)
        if times:
            results = timing.add_timing(results, times)
        if self.runs:
            results |= dict(machine=machine(self.args.device), versions=versions())
        if results.get('runs'):
            self.args.results.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.args.results, results)
            text = report.markdown(results)
            write_text(self.args.markdown, text)
            if self.args.docs is not None:
                report.replace_in_page(self.args.docs, text)
        return results

    def pictures(self, results: dict[str, Any]) -> None:
        """Draw plot and sheet, and name all files that there are."""
        args = self.args
        drawn = [args.results, args.markdown] if results.get('runs') else []
        if drawn and plot.draw(results, args.plot):
            drawn.append(args.plot)
        wanted = drawn and args.pictures
        if wanted and draw_sheet(results, self.store.folder, args.sheet, args.pictures):
            drawn.append(args.sheet)
        for path in drawn:
            print(path, flush=True)


def run(args: argparse.Namespace) -> int:
    """Play the league; returns the exit status."""
    check(args)
    seeds = parse_seeds(args.seeds)
    slots = make_slots(args.jobs, args.device)
    entries = []
    if args.configs:
        entries = read_entries(args.configs, args.cfg_options, args.data, args.common)
    store = Store(args.work_dir, args.until)
    store.check(entries)
    runs = runs_in_order(entries, seeds)
    files = Files(args, store, runs)
    place = Place(args.device)
    league = League(runs, store, place, in_short(machine(args.device)), slots)
    if args.list:
        for one in runs:
            print(report.state(one, store))
        print(f'left: {left_in_words(league.left())}')
        return 0
    if args.report:
        results = files.tables()
        known = timing.subjects(results, store.folder)
        times = timing.find_timing(known, store.folder, args.device, args.time_steps)
        results = files.tables(times)
    else:
        with locked(store.folder) as kept_open:
            league.kept_open = kept_open
            if args.retry:
                retry(runs, store)
            play_and_tell(league, files)
            results = files.tables(time_all(files.tables(), league, args))
        print(f'\n{report.markdown(results)}')
    files.pictures(results)
    failed = [one for one in runs if store.failure(one) is not None]
    return int(bool(failed or league.interrupted))


def play_and_tell(league: League, files: Files) -> None:
    """Play, with a line and new tables for every run that ends."""
    store, total = league.store, len(league.runs)

    def ended(one: Run, left: float | None) -> None:
        files.tables()
        over = sum(store.next_stage(other) is None for other in league.runs)
        rest = f'; left: {left_in_words(left)}' if over < total else ''
        print(f'[{over}/{total}] {report.outcome(one, store)}{rest}', flush=True)

    play(league, ended)


def time_all(results: dict[str, Any], league: League, args: argparse.Namespace) -> dict[str, Any]:
    """Time per image of all models of the results, unless it is known already."""
    folder = league.store.folder
    found = timing.subjects(results, folder)
    if not found or not args.time_steps:
        return {}
    known = timing.find_timing(found, folder, args.device, args.time_steps)
    if known:
        return known
    print(f'times {len(found)} models in turn', flush=True)
    core = league.slots[0].core
    return timing.time_models(found, folder, args.device, args.time_steps, core)


def in_short(where: dict[str, Any]) -> str:
    """A machine in words."""
    what = where.get('gpu') or f'{where["processor"]} ({where["instructions"]})'
    return f'{what}, PyTorch {where["torch"]}, mmseg_arta {where["mmseg_arta"]}'


def left_in_words(seconds: float | None) -> str:
    """For lines on the terminal."""
    return 'not known yet' if seconds is None else f'about {in_words(seconds)}'


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    MMLogger.get_current_instance().setLevel('ERROR')
    # Whoever ends this ends what it has started, too.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(args)
    except (OSError, ValueError) as error:
        print(f'league: error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('league: stopped; the same command goes on', file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == '__main__':
    sys.exit(main())
