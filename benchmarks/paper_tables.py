"""The papers' tables, with what is measured here beside what was published.

    python benchmarks/paper_tables.py arta-4 --device cuda
    python benchmarks/paper_tables.py arta-2 dups-4 --work-dirs work_dirs --images dataset:100
    python benchmarks/paper_tables.py --list

Every row is a run of its own by ``tools/benchmark.py``'s protocols under the table's conditions, in
turn with the table's first model, so that the ratios hold although rows are measured one by one.
What is measured is kept after every row: the same command goes on where it stopped.

Trained weights are looked for in ``--work-dirs``, where ``mim train`` and ``mim test`` leave a
folder for every config: the checkpoint that ``last_checkpoint`` names, and the last mIoU that was
logged. Without weights ARTA and DUPS refine the largest share that training allows, and rows whose
operations depend on what a model has learned say so instead of giving figures by chance.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import mmseg_arta  # noqa: F401  registers the models
from benchmarks.published import COLUMNS, Column, Part, TableRow, names, read_table
from mmseg_arta.analysis.benchmark import Conditions
from mmseg_arta.analysis.benchmark.machine import machine
from mmseg_arta.analysis.benchmark.run import DEFAULTS, run_protocol
from mmseg_arta.analysis.benchmark.subjects import CLOCKS, DTYPES, Model
from mmseg_arta.analysis.benchmark.timing import TOLERANCE
from mmseg_arta.analysis.devices import check_device
from mmseg_arta.analysis.flops.load import find_config
from mmseg_arta.command_line import Parser, run_command
from mmseg_arta.files import check_writable, write_json, write_text

RESULTS = Path(__file__).resolve().parent / 'results'
NEEDS_WEIGHTS = 'needs weights'


@dataclass(frozen=True)
class Runs:
    """Where training left its runs: folders named after configs, as ``mim train`` makes them."""

    folder: Path | None = None

    def checkpoint(self, config: str) -> str | None:
        """The last checkpoint of a config."""
        named = self._folder(config) and self._folder(config) / 'last_checkpoint'
        if not named or not named.is_file():
            return None
        path = Path(named.read_text(encoding='utf-8').strip())
        # Runs may have been moved since.
        return str(path if path.is_file() else named.parent / path.name)

    def miou(self, config: str) -> float | None:
        """The last mIoU that validation or testing of a config logged, in percent."""
        folder = self._folder(config)
        found = None
        for path in sorted(folder.rglob('*.json')) if folder else ():
            for line in path.read_text(encoding='utf-8').splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                if isinstance(entry, Mapping) and isinstance(entry.get('mIoU'), float):
                    found = entry['mIoU']
        return found

    def _folder(self, config: str) -> Path | None:
        if self.folder is None or not config:
            return None
        folder = self.folder / find_config(config).stem
        return folder if folder.is_dir() else None


class Store:
    """What was measured, in a file that is whole after every row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: dict[str, Any] = {}
        if path.is_file():
            try:
                self.content = json.loads(path.read_text(encoding='utf-8'))['rows']
            except (ValueError, KeyError, TypeError):
                raise ValueError(f'{path} is not a file that this program wrote') from None

    def get(self, key: str) -> dict[str, Any] | None:
        return self.content.get(key)

    def put(self, key: str, figures: Mapping[str, Any], where: Mapping[str, Any]) -> None:
        self.content[key] = dict(figures)
        write_json(self.path, dict(machine=dict(where), rows=self.content))


@dataclass(frozen=True)
class Settings:
    """Of all tables of a run; see the command's options."""

    device: str = 'cpu'
    dtype: str = 'fp32'
    clock: str = 'wall'
    steps: int | None = None
    warmup: int | None = None
    batch_size: int | None = None
    images: str | None = None
    protocols: tuple[str, ...] = ()
    again: bool = False


def measure_row(
    part: Part, row: TableRow, protocol: str, settings: Settings, runs: Runs, store: Store
) -> dict[str, Any]:
    """Figures of a row by one protocol: kept ones, or new ones, which are kept."""
    model = _model(row, runs)
    shape = row.shape or part.shape
    size = 1 if protocol == 'flops' else settings.batch_size or row.batch_size or part.batch_size
    timed = protocol != 'flops'
    default = DEFAULTS[protocol]
    key = [model.config, dict(model.options), model.checkpoint, model.allocation, protocol, shape]
    key += [size, settings.images]
    if timed:
        key += [settings.device, settings.dtype, settings.clock]
        key += [settings.steps or default.steps, _first(part, runs).label]
    name = json.dumps(key)
    kept = store.get(name)
    if kept is not None and not settings.again:
        return kept
    models = [model]
    first = _first(part, runs)
    if timed and first.label != model.label:
        # Turns with the first model of the table, under the conditions of this row.
        models.insert(0, first)
    conditions = Conditions(shape, size, settings.device, settings.dtype, clock=settings.clock)
    result = run_protocol(
        protocol, models, conditions, (size,), settings.images, settings.steps, settings.warmup
    )
    found = next(one for one in result.rows if one.model.label == model.label)
    figures = {key: value for key, value in found.figures.items() if key != 'turns_ms'}
    figures.update(label=row.label, config=model.config, allocation=model.allocation)
    if found.failure:
        figures['failure'] = found.failure
    if figures.get('by_chance'):
        figures = dict(label=row.label, config=model.config, failure=NEEDS_WEIGHTS)
    store.put(name, figures, machine(settings.device))
    return figures


def _first(part: Part, runs: Runs) -> Model:
    """The model that all others of a table take turns with."""
    return _model(next(row for row in part.rows if row.config), runs)


def _model(row: TableRow, runs: Runs) -> Model:
    checkpoint = runs.checkpoint(row.config)
    # What was learned decides on the tokens, except where the table forces them all.
    allocation = 'model' if checkpoint and row.allocation == 'caps' else row.allocation
    return Model(row.config, row.options, checkpoint, allocation, label=row.label)


def show(
    part: Part, found: Mapping[str, Mapping[str, Mapping[str, Any]]], runs: Runs
) -> tuple[list[str], list[list[str]]]:
    """Heading and rows: for every column the published figure and the measured one."""
    head = ['model', 'tokens']
    for name in part.columns:
        column = COLUMNS[name]
        head += [f'{column.name}: paper', 'here']
        if column.ratio and _measured(column, part):
            head += ['ratio: paper', 'here']
    lines = []
    base = next((row for row in part.rows if row.config), None)
    for row in part.rows:
        line = [row.label, _tokens(row, runs)]
        for name in part.columns:
            column = COLUMNS[name]
            figures = found.get(row.label, {}).get(column.protocol, {})
            line += [_text(row.published[name]), _here(name, column, row, figures, runs)]
            if column.ratio and _measured(column, part):
                line += [_published_ratio(row, base, name), _number(figures.get(column.ratio), 2)]
        lines.append(line)
    return head, lines


def _measured(column: Column, part: Part) -> bool:
    return column.protocol in part.protocols


def _tokens(row: TableRow, runs: Runs) -> str:
    if not row.config:
        return 'no config'
    model = _model(row, runs)
    return {'caps': 'caps', 'full': 'all'}.get(
        model.allocation, 'trained' if model.checkpoint else ''
    )


def _here(name: str, column: Column, row: TableRow, figures: Mapping[str, Any], runs: Runs) -> str:
    if not row.config:
        return '–'
    if name == 'miou':
        return _number(runs.miou(row.config), 2)
    if figures.get('failure'):
        return str(figures['failure'])
    text = _number(figures.get(column.figure), column.digits, column.factor)
    if column.figure == 'gmacs_published' and figures.get('images', 1) > 1:
        text += f' ± {figures["gmacs_published_std"]:.1f}'
    unsteady = column.protocol != 'flops' and (figures.get('disagreement') or 0) > TOLERANCE
    return text + ('?' if unsteady and 'images_per_second' in column.figure else '')


def _published_ratio(row: TableRow, base: TableRow | None, name: str) -> str:
    one, other = row.published[name], base.published[name] if base else None
    both = isinstance(one, (int, float)) and isinstance(other, (int, float))
    return _number(one / other, 2) if both else '–'


def _number(value: float | None, digits: int, factor: float = 1.0) -> str:
    return '–' if value is None else f'{value * factor:.{digits}f}'


def _text(value: Any) -> str:
    return '–' if value is None else str(value)


def markdown(paper: str, part: Part, table: tuple[list[str], list[list[str]]], about: str) -> str:
    """A part of a table as Markdown."""
    head, lines = table
    rows = [head, ['---', *['---:'] * (len(head) - 1)], *lines]
    text = [
        f'## {paper}: {part.title}',
        '',
        *(f'| {" | ".join(row)} |' for row in rows),
        '',
        about,
    ]
    if part.notes:
        text.append(part.notes)
    return '\n'.join(text) + '\n'


def describe(part: Part, settings: Settings) -> str:
    """The conditions of what was measured, in a line."""
    where = machine(settings.device)
    place = where.get('gpu') or where['processor']
    text = [f'Here: {place}, PyTorch {where["torch"]}, {settings.dtype}']
    timed = [name for name in part.protocols if name != 'flops']
    for name in timed:
        steps = settings.steps or DEFAULTS[name].steps
        batch = settings.batch_size or 'as the paper'
        text.append(f'{name} of {steps} steps, batch {batch}')
    if timed:
        text.append('ratios to the first model that was measured here, in turn with it')
        text.append('a question mark where the halves of a measurement disagree by more than 5 %')
    return '; '.join(text) + '.'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser('paper_tables', description=__doc__)
    add = parser.add_argument
    add('tables', nargs='*', metavar='TABLE', help=', '.join(names()))
    add('--list', action='store_true', help='names and contents of all tables')
    add('--device', default='cpu', help="'cpu' (default), 'cuda' or 'cuda:N'")
    add('--dtype', choices=DTYPES, default='fp32', help='number type (default: fp32)')
    add('--clock', choices=CLOCKS, default='wall', help='see tools/benchmark.py')
    add('--protocol', nargs='+', choices=list(DEFAULTS), help='only these of the table')
    add('--steps', type=int, metavar='N', help='measured steps (default: the protocol says)')
    add('--warmup', type=int, metavar='N', help='steps before them')
    add('--batch-size', type=int, metavar='N', help='images per step (default: as the paper)')
    add('--images', metavar='DIR|dataset:K', help='real images; see tools/benchmark.py')
    add('--work-dirs', type=Path, metavar='DIR', help='where training left its runs')
    add('--only', nargs='+', default=[], metavar='TEXT', help='rows whose names contain a text')
    add('--again', action='store_true', help='measure again what is known')
    add(
        '--results',
        type=Path,
        metavar='FILE',
        help='what was measured (default: benchmarks/results)',
    )
    add('--markdown', type=Path, metavar='FILE', help='write the tables')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Measure, row by row, and print."""
    tables = [read_table(name) for name in args.tables]
    if not tables:
        raise ValueError(f'which table? Known are {", ".join(names())}')
    check_device(args.device)
    check_rows([part for _, parts in tables for part in parts], args.protocol, args.only)
    if args.work_dirs is not None and not args.work_dirs.is_dir():
        raise FileNotFoundError(f'--work-dirs {args.work_dirs}: there is no such folder')
    for option, least in (('steps', 1), ('warmup', 0), ('batch_size', 1)):
        value = getattr(args, option)
        if value is not None and value < least:
            name = option.replace('_', '-')
            raise ValueError(f'--{name} must be at least {least}, found {value}')
    device = args.device.partition(':')[0]
    path = args.results or RESULTS / f'tables_{device}_{args.dtype}.json'
    check_writable('--results', path)
    if args.markdown:
        check_writable('--markdown', args.markdown)
    settings = Settings(
        args.device,
        args.dtype,
        args.clock,
        args.steps,
        args.warmup,
        args.batch_size,
        args.images,
        tuple(args.protocol or ()),
        args.again,
    )
    runs, store = Runs(args.work_dirs), Store(path)
    text = []
    for paper, parts in tables:
        for part in parts:
            chosen = [p for p in part.protocols if p in (settings.protocols or part.protocols)]
            here = replace(part, protocols=tuple(chosen))
            found: dict[str, dict[str, Any]] = {}
            for row in here.rows:
                if not row.config or not _wanted(row, args.only):
                    continue
                for protocol in chosen:
                    print(f'{paper}: {row.label}, {protocol}', file=sys.stderr, flush=True)
                    figures = measure_row(here, row, protocol, settings, runs, store)
                    found.setdefault(row.label, {})[protocol] = figures
                    if figures.get('failure') == NEEDS_WEIGHTS:
                        # Neither do the other protocols tell anything.
                        found[row.label] = dict.fromkeys(chosen, figures)
                        break
            text.append(markdown(paper, here, show(here, found, runs), describe(here, settings)))
            print(text[-1], flush=True)
    if args.markdown:
        write_text(args.markdown, '\n'.join(text))


def check_rows(parts: Sequence[Part], protocols: Sequence[str] | None, only: Sequence[str]) -> None:
    """Whether there is something to measure.

    Raises:
        ValueError: if no table is measured by one of ``protocols``, a text of ``only`` is in no
            row's name, or no row is left of both.
    """
    known = {protocol for part in parts for protocol in part.protocols}
    for protocol in protocols or ():
        if protocol not in known:
            raise ValueError(
                f'--protocol {protocol}: the tables that were named are measured by '
                f'{", ".join(sorted(known))}'
            )
    labels = [row.label for part in parts for row in part.rows if row.config]
    for text in only:
        if not any(text.lower() in label.lower() for label in labels):
            raise ValueError(
                f'--only {text}: no row has that in its name; rows are {", ".join(labels)}'
            )
    left = [part for part in parts if set(part.protocols) & set(protocols or known)]
    if not any(row.config and _wanted(row, only) for part in left for row in part.rows):
        raise ValueError(
            f'--only {" ".join(only)} and --protocol {" ".join(protocols or ())} leave no row'
        )


def _wanted(row: TableRow, only: Sequence[str]) -> bool:
    return not only or any(text.lower() in row.label.lower() for text in only)


def show_tables() -> None:
    """Names and contents of all tables."""
    for name in names():
        paper, parts = read_table(name)
        print(f'{name:<14} {paper}: {"; ".join(part.title for part in parts)}')


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    return run_command('paper_tables', lambda: show_tables() if args.list else run(args))


if __name__ == '__main__':
    sys.exit(main())
