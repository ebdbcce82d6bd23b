"""How long a prediction takes: all models of a league in turn, with nothing beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ...files import write_json
from ..benchmark.report import describe
from ..benchmark.run import run_protocol
from ..benchmark.subjects import Conditions, Model
from ..flops.load import load_config
from ..flops.samples import validation_set
from ..visualization import sample_of
from .plan import Run
from .processes import on_core
from .records import STAGES, Store
from .stages import checkpoint_of

WARMUP = 4


def subjects(runs: Sequence[Run], store: Store) -> list[Run]:
    """Of every config the first run that is complete."""
    found: dict[str, Run] = {}
    for run in runs:
        if store.failure(run) is None and len(store.every(run)) == len(STAGES):
            found.setdefault(run.entry.key, run)
    return list(found.values())


def find_timing(runs: Sequence[Run], store: Store, device: str, steps: int) -> dict[str, Any]:
    """What was measured of exactly these runs in this way; nothing if that was not."""
    try:
        found = json.loads((store.folder / 'timing.json').read_text(encoding='utf-8'))
    except (FileNotFoundError, ValueError):
        return {}
    return found if found.get('of') == _fingerprint(runs, device, steps) else {}


def time_models(
    runs: Sequence[Run], store: Store, device: str, steps: int, core: int | None = None
) -> dict[str, Any]:
    """Milliseconds per image, by config; kept in the league's folder.

    Whole test images at the size of the first one, one at a time; on a CPU the processor time of
    one thread.

    Args:
        runs: see :func:`subjects`.
        store: where they lie.
        device: of PyTorch.
        steps: images per model.
        core: that is used; None for any.

    Raises:
        OSError, ValueError: if something of a run is missing.
    """
    models = []
    for run in runs:
        folder = store.of(run)
        checkpoint = checkpoint_of(folder / 'train')
        if checkpoint is None:
            raise FileNotFoundError(f'the checkpoint of {run.name} is gone from {folder}')
        config = str(folder / 'whole.py')
        models.append(Model(config, {}, str(checkpoint), label=run.entry.key))
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
        of=_fingerprint(runs, device, steps),
        conditions=describe(found),
        remarks=list(found.remarks),
        rows=rows,
    )
    write_json(store.folder / 'timing.json', result)
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


def _fingerprint(runs: Sequence[Run], device: str, steps: int) -> dict[str, Any]:
    subjects = {run.entry.key: [run.entry.digest, run.seed] for run in runs}
    return dict(runs=subjects, device=device, steps=steps)
