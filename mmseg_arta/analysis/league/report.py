"""The table of a league, in Markdown and within pages, and lines on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...files import write_text
from .plan import Run
from .records import Store
from .results import Summary, labels_of, summaries
from .time_left import in_words

#: Lines between which a page holds the table.
MARKERS = ('<!-- league table -->', '<!-- league table end -->')

_NONE = '–'


def _cell(name: str, digits: int, factor: float = 1.0, spread: str = '') -> Any:
    """A figure with its deviation: over the seeds, or as another figure has it."""

    def show(one: Summary) -> str:
        value = one.means.get(name)
        if value is None:
            return _NONE
        text = f'{value * factor:.{digits}f}'
        deviation = one.means.get(spread) if spread else one.spreads.get(name)
        # Where operations do not depend on the image, there is none.
        return f'{text} ± {deviation * factor:.{digits}f}' if deviation else text

    return show


def _plain(name: str, digits: int, factor: float = 1.0) -> Any:
    """A figure without its deviation."""

    def show(one: Summary) -> str:
        value = one.means.get(name)
        return _NONE if value is None else f'{value * factor:.{digits}f}'

    return show


def _milliseconds(one: Summary) -> str:
    value = one.timing.get('latency_ms')
    return _NONE if value is None else f'{value:.0f}' if value >= 10 else f'{value:.2f}'


def _seeds(one: Summary) -> str:
    failed = f', {len(one.failures)} failed' if one.failures else ''
    return f'{len(one.seeds)}{failed}'


COLUMNS: tuple[tuple[str, Callable[[Summary], str]], ...] = (
    ('params (M)', _plain('params', 2, 1e-6)),
    ('GMACs / image', _cell('gmacs_whole', 2, 1.0, 'gmacs_std_whole')),
    ('as papers count', _cell('gmacs_published_whole', 2, 1.0, 'gmacs_published_std_whole')),
    ('ms / image', _milliseconds),
    ('training (s / iteration)', _plain('iteration_seconds', 2)),
    ('training (GiB)', _plain('memory_bytes', 2, 2.0**-30)),
    ('mIoU', _cell('miou_whole', 2)),
    ('in windows', _cell('miou_windows', 2)),
    ('within 2 px', _cell('band_2_whole', 2)),
    ('4 px', _cell('band_4_whole', 2)),
    ('8 px', _cell('band_8_whole', 2)),
    ('boundary IoU', _cell('boundary_iou_whole', 2)),
    ('seeds', _seeds),
)


def markdown(results: Mapping[str, Any]) -> str:
    """Table and remarks of results."""
    found = summaries(results)
    if not found:
        return 'No run has ended yet.\n'
    labels = labels_of(found)
    rows = [['model', *(name for name, _ in COLUMNS)], ['---', *['---:'] * len(COLUMNS)]]
    rows += [[labels[one.key], *(show(one) for _, show in COLUMNS)] for one in found]
    lines = [f'| {" | ".join(cell.replace("|", "/") for cell in row)} |' for row in rows]
    remarks = [f'- {remark}' for remark in _remarks(results, found, labels)]
    return '\n'.join([*lines, '', *remarks]) + '\n'


def _remarks(
    results: Mapping[str, Any], found: Sequence[Summary], labels: Mapping[str, str]
) -> list[str]:
    remarks = [
        'mIoU, that within so many pixels of class boundaries and boundary IoU in percent; all but '
        '"in windows" of whole images, at once. ± is the standard deviation over seeds, of GMACs '
        'that over the test images; GMACs as they run, and as papers count them.'
    ]
    budgets: dict[str, list[str]] = {}
    for one in found:
        budgets.setdefault(_budget(one), []).append(labels[one.key])
    for budget, names in budgets.items():
        who = 'All' if len(budgets) == 1 else ', '.join(names)
        remarks.append(f'{who}: {budget}.')
    for one in found:
        for seed, stage, reason in one.failures:
            remarks.append(f'{labels[one.key]}, seed {seed} failed in stage {stage}: {reason}')
    timings = {repr(sorted(one.timing['beside'])) for one in found if one.timing}
    described = dict.fromkeys(one.timing['conditions'] for one in found if one.timing)
    remarks += [f'ms / image: {text}.' for text in described]
    remarks += list(results.get('timing_remarks', ()))
    if len(timings) > 1:
        remarks.append('Not all models were timed in one go: compare ms / image with care.')
    places = dict.fromkeys(row['machine'] for row in results['runs'] if row['machine'])
    remarks += [f'Measured on {place}.' for place in places]
    return remarks


def _budget(one: Summary) -> str:
    about = one.about
    length = f'{about["iterations"]} iterations'
    if not about['iterations']:
        length = f'{about["epochs"]} epochs'
    height, width = about['crop']
    return f'{length} of {about["batch_size"]} images in crops of {height}x{width}'


def replace_in_page(path: Path, text: str) -> None:
    """Put a table between the :data:`MARKERS` of a page.

    Raises:
        ValueError: if it does not have them.
        OSError: if it cannot be read or written.
    """
    head, _, tail = _around(path)
    write_text(path, f'{head}{MARKERS[0]}\n\n{text}\n{MARKERS[1]}{tail}')


def check_page(path: Path) -> None:
    """What :func:`replace_in_page` would raise, before hours of work."""
    _around(path)


def _around(path: Path) -> tuple[str, str, str]:
    content = path.read_text(encoding='utf-8')
    head, first, rest = content.partition(MARKERS[0])
    middle, second, tail = rest.partition(MARKERS[1])
    if not first or not second:
        raise ValueError(f'--docs {path}: no lines {MARKERS[0]} and {MARKERS[1]} there')
    return head, middle, tail


def outcome(run: Run, store: Store) -> str:
    """What a run came to, in a line."""
    records, failure = store.every(run), store.failure(run)
    seconds = sum(record.seconds for record in records.values())
    if failure is not None:
        return f'{run.name}: failed in stage {failure.stage}: {failure.reason}'
    if not store.complete(run):
        return f'{run.name}: interrupted; a later call goes on'
    found = [('mIoU', 'whole'), ('in windows', 'windows')]
    words = [
        f'{word} {records[mode].figures["mIoU"]:.2f}' for word, mode in found if mode in records
    ]
    return f'{run.name}: {", ".join(words) or "trained"}; took {in_words(seconds)}'


def state(run: Run, store: Store) -> str:
    """What is done of a run and what is left, in a line."""
    records = store.every(run)
    words = [
        f'{stage} {records[stage].result}' if stage in records else f'{stage} left'
        for stage in store.stages
    ]
    return f'{run.name}: {", ".join(words)}'
