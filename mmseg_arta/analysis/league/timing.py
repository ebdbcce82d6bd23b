"""How long a prediction takes: all models of a league in turn, with nothing beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ...files import write_json
from ..benchmark.report import describe
from ..benchmark.run import run_protocol
from ..benchmark.subjects import Conditions, Model
from ..flops.load import load_config
from ..flops.samples import validation_set
from ..visualization import sample_of
from .processes import on_core
from .stages import checkpoint_of

WARMUP = 4


class Timed(NamedTuple):
    """A run that stands for its config: key and digest of that, its seed and its folder."""

    key: str
    digest: str
    seed: int
    folder: Path


def subjects(results: Mapping[str, Any], folder: Path) -> list[Timed]:
    """Of every config in the results the first complete run whose checkpoint is here.

    Args:
        results: see :func:`~.results.collect`.
        folder: of the league.
    """
    found: dict[str, Timed] = {}
    for row in results.get('runs', ()):
        place = folder / row['config'] / f'seed{row["seed"]}'
        there = checkpoint_of(place / 'train') is not None and (place / 'whole.py').is_file()
        if row['complete'] and there:
            digest = results['configs'][row['config']]['digest']
            found.setdefault(row['config'], Timed(row['config'], digest, row['seed'], place))
    return list(found.values())


def find_timing(subjects: Sequence[Timed], folder: Path, device: str, steps: int) -> dict[str, Any]:
    """What was measured of exactly these runs in this way; nothing if that was not."""
    try:
        found = json.loads((folder / 'timing.json').read_text(encoding='utf-8'))
    except (FileNotFoundError, ValueError):
        return {}
    return found if found.get('of') == _fingerprint(subjects, device, steps) else {}


def time_models(
    subjects: Sequence[Timed], folder: Path, device: str, steps: int, core: int | None = None
) -> dict[str, Any]:
    """Milliseconds per image, by config; kept in the league's folder.

    Whole test images at the size of the first one, one at a time; on a CPU the processor time of
    one thread.

    Args:
        subjects: see :func:`subjects`.
        folder: of the league.
        device: of PyTorch.
        steps: images per model.
        core: that is used; None for any.

    Raises:
        OSError, ValueError: if something of a run is missing.
    """
    models = [
        Model(
            str(one.folder / 'whole.py'),
            {},
            str(checkpoint_of(one.folder / 'train')),
            label=one.key,
        )
        for one in subjects
    ]
    data = validation_set(load_config(models[0].config), 'test_dataloader')
    height, width = sample_of(data, 0)['inputs'].shape[-2:]
    with _one_thread(device), on_core(core):
        clock = 'processor' if device == 'cpu' else 'wall'
        conditions = Conditions((height, width), 1, device, clock=clock)
        found = run_protocol(
            'inference', models, conditions, (1,), f'dataset:{steps}', steps, min(WARMUP, steps)
        )
    rows = {
        row.model.label: dict(row.figures) if not row.failure else dict(failure=row.failure)
        for row in found.rows
    }
    result = dict(
        of=_fingerprint(subjects, device, steps),
        conditions=describe(found),
        remarks=list(found.remarks),
        rows=rows,
    )
    write_json(folder / 'timing.json', result)
    return result


def add_timing(results: Mapping[str, Any], timing: Mapping[str, Any]) -> dict[str, Any]:
    """Results with the times of a measurement."""
    configs = {key: dict(about) for key, about in results['configs'].items()}
    for key, row in timing.get('rows', {}).items():
        if key in configs:
            kept = {name: value for name, value in row.items() if name != 'turns_ms'}
            beside = list(timing['rows'])
            configs[key]['timing'] = dict(conditions=timing['conditions'], beside=beside, **kept)
    remarks = timing.get('remarks', results.get('timing_remarks', []))
    return dict(results, configs=configs, timing_remarks=remarks)


@contextmanager
def _one_thread(device: str) -> Generator[None]:
    """On a CPU: this process and those that it starts compute with one thread."""
    if device != 'cpu':
        yield
        return
    threads, before = torch.get_num_threads(), os.environ.get('OMP_NUM_THREADS')
    torch.set_num_threads(1)
    os.environ['OMP_NUM_THREADS'] = '1'
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if before is None:
            del os.environ['OMP_NUM_THREADS']
        else:
            os.environ['OMP_NUM_THREADS'] = before


def _fingerprint(subjects: Sequence[Timed], device: str, steps: int) -> dict[str, Any]:
    return dict(
        runs={one.key: [one.digest, one.seed] for one in subjects}, device=device, steps=steps
    )
