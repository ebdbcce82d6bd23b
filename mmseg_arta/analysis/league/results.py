"""Results of runs, as plain numbers in a file and summed up over seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from .plan import Entry, Run
from .records import Store
from .stages import MODES

_LIBRARIES = ('torch', 'numpy', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmsegmentation')

#: Figures of a run that are averaged over seeds, by the place where they lie in its row.
AVERAGED = {
    **{f'miou_{mode}': (mode, 'mIoU') for mode in MODES},
    **{
        f'band_{width}_{mode}': ('measure', 'boundaries', mode, 'bands', str(width))
        for mode in MODES
        for width in (2, 4, 8)
    },
    **{f'boundary_iou_{mode}': ('measure', 'boundaries', mode, 'boundary_iou') for mode in MODES},
    'iteration_seconds': ('train', 'iteration_seconds'),
    'memory_bytes': ('train', 'memory_bytes'),
    **{f'gmacs_{mode}': ('measure', 'operations', mode, 'gmacs') for mode in MODES},
    **{f'gmacs_std_{mode}': ('measure', 'operations', mode, 'gmacs_std') for mode in MODES},
    'gmacs_published_whole': ('measure', 'operations', 'whole', 'gmacs_published'),
    'gmacs_published_std_whole': ('measure', 'operations', 'whole', 'gmacs_published_std'),
    'tokens_whole': ('measure', 'operations', 'whole', 'tokens'),
    'params': ('measure', 'operations', 'whole', 'params'),
}


@dataclass(frozen=True)
class Summary:
    """A config over its seeds.

    Attributes:
        key: of the config.
        about: what is known of the config.
        seeds: of the runs that have ended well.
        failures: of the others: seed, stage and reason.
        means: by the names of :data:`AVERAGED`, over the seeds; missing where none has it.
        spreads: standard deviation over the seeds (of a sample); missing for a single one.
        timing: what :mod:`.timing` found, if it was asked.
    """

    key: str
    about: Mapping[str, Any]
    seeds: Sequence[int]
    failures: Sequence[tuple[int, str, str]]
    means: Mapping[str, float]
    spreads: Mapping[str, float]
    timing: Mapping[str, Any]


def row_of(run: Run, store: Store) -> dict[str, Any] | None:
    """A run's part of the results; None if no stage of it has ended."""
    records = store.every(run)
    if not records:
        return None
    failed = store.failure(run)
    row: dict[str, Any] = dict(config=run.entry.key, seed=run.seed)
    row['complete'] = store.complete(run)
    row['failure'] = failed and dict(stage=failed.stage, reason=failed.reason)
    row['machine'] = next(iter(records.values())).machine
    row['seconds'] = {stage: round(record.seconds, 1) for stage, record in records.items()}
    row |= {stage: dict(record.figures) for stage, record in records.items() if record.figures}
    return row


def collect(runs: Iterable[Run], store: Store, before: Mapping[str, Any]) -> dict[str, Any]:
    """Results of runs beside those that a file has already held.

    Args:
        runs, store: the runs.
        before: content of the file; see :func:`read_results`.
    """
    configs = {**before.get('configs', {})}
    rows = {(row['config'], row['seed']): row for row in before.get('runs', ())}
    for run in runs:
        row = row_of(run, store)
        if row is None:
            continue
        rows[run.entry.key, run.seed] = row
        timing = configs.get(run.entry.key, {}).get('timing')
        configs[run.entry.key] = run.entry.about() | ({'timing': timing} if timing else {})
    return dict(before, configs=configs, runs=list(rows.values()))


def versions() -> dict[str, str]:
    """Of the libraries that results depend on."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def read_results(path: Path) -> dict[str, Any]:
    """The content of a results file; nothing if there is none yet.

    Raises:
        ValueError: if it is no such file.
        OSError: if it cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
        rows = [(row['config'], row['seed']) for row in found['runs']]
        configs = found['configs']
        known = all(key in configs and configs[key]['digest'] for key, _ in rows)
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, AttributeError):
        known, found = False, {}
    if not known:
        raise ValueError(f'--results {path} exists and holds no results of a league')
    return found


def check_results(path: Path, before: Mapping[str, Any], entries: Sequence[Entry]) -> None:
    """Raise ValueError if a results file has another config by the name of one of these."""
    for entry in entries:
        theirs = before.get('configs', {}).get(entry.key)
        if theirs is not None and theirs['digest'] != entry.digest:
            raise ValueError(
                f'config {entry.key} is another one in --results {path} ({theirs["digest"]}, now '
                f'{entry.digest}): rename it or take another file'
            )
        other = next((one for one in before.get('configs', {}).values()), None)
        ours = entry.about()['data']
        if other is not None and other['data'] != ours:
            raise ValueError(
                f'a league has one test set: config {entry.key} tests on {ours}, those of '
                f'--results {path} on {other["data"]}'
            )


def summaries(results: Mapping[str, Any]) -> list[Summary]:
    """Every config over its seeds, best mIoU of whole images first, those without any last."""
    found = []
    for key, about in results.get('configs', {}).items():
        rows = [row for row in results['runs'] if row['config'] == key]
        # What goes on has the figures that there are; what has failed has none.
        counted = [row for row in rows if not row['failure']]
        values = {name: _values(counted, place) for name, place in AVERAGED.items()}
        means = {name: mean(some) for name, some in values.items() if some}
        spreads = {name: stdev(some) for name, some in values.items() if len(some) > 1}
        failures = [
            (row['seed'], row['failure']['stage'], row['failure']['reason'])
            for row in rows
            if row['failure']
        ]
        seeds = [row['seed'] for row in counted if row['complete']]
        timing = about.get('timing') or {}
        found.append(Summary(key, about, seeds, failures, means, spreads, timing))
    return sorted(found, key=lambda one: -one.means.get('miou_whole', -math.inf))


def _values(rows: Sequence[Mapping[str, Any]], place: Sequence[str]) -> list[float]:
    values = []
    for row in rows:
        value: Any = row
        for part in place:
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, (int, float)) and math.isfinite(value):
            values.append(float(value))
    return values


def labels_of(found: Iterable[Summary]) -> dict[str, str]:
    """Names for tables and pictures: backbone and head of a config's name where that will do."""
    every = list(found)
    short = {one.key: _short(one) for one in every}
    often = list(short.values())
    return {key: label if often.count(label) == 1 else key for key, label in short.items()}


def _short(summary: Summary) -> str:
    name = ' '.join(str(summary.about['config']).split('_')[:2])
    changes = [f'{k.rpartition(".")[2]}={v}' for k, v in summary.about['settings'].items()]
    return ', '.join([name, *changes])
