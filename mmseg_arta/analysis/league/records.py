"""What every stage of every run came to, kept on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...files import write_json
from .plan import Entry, Run

#: Training; tests of whole images and in windows; boundaries and operations.
STAGES = ('train', 'whole', 'windows', 'measure')

DONE, FAILED = 'done', 'failed'


@dataclass(frozen=True)
class Record:
    """Outcome of a stage.

    Attributes:
        stage: a name of :data:`STAGES`.
        result: 'done' or 'failed'.
        digest: of the config.
        seconds: wall-clock time of a whole stage; estimated where it was resumed.
        figures: by name.
        reason: why it failed.
        machine: where, in words.
    """

    stage: str
    result: str
    digest: str
    seconds: float = 0.0
    figures: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ''
    machine: str = ''


class Store:
    """The folder of a league: one below it per config, in that one per seed.

    Args:
        folder: made when needed.
        until: the last stage of a run.

    Attributes:
        stages: of a run, in order.
    """

    def __init__(self, folder: Path, until: str = STAGES[-1]) -> None:
        self.folder = folder.absolute()
        self.stages = STAGES[: STAGES.index(until) + 1]

    def complete(self, run: Run) -> bool:
        """Whether all stages are done."""
        found = [self.find(run, stage) for stage in self.stages]
        return all(record is not None and record.result == DONE for record in found)

    def of(self, run: Run) -> Path:
        """The folder of a run."""
        return self.folder / run.entry.key / f'seed{run.seed}'

    def log(self, run: Run, stage: str) -> Path:
        """What the commands of a stage print."""
        return self.of(run) / f'{stage}.log'

    def find(self, run: Run, stage: str) -> Record | None:
        """The record of a stage; None if it has not ended."""
        return _read(self.of(run) / f'{stage}.json')

    def every(self, run: Run) -> dict[str, Record]:
        """Records of all stages that have ended."""
        found = {stage: self.find(run, stage) for stage in STAGES}
        return {stage: record for stage, record in found.items() if record is not None}

    def write(self, run: Run, record: Record) -> None:
        """Keep a record in place of an older one."""
        self.of(run).mkdir(parents=True, exist_ok=True)
        write_json(self.of(run) / f'{record.stage}.json', asdict(record))

    def forget(self, run: Run, stage: str) -> None:
        """As if a stage had not ended."""
        (self.of(run) / f'{stage}.json').unlink(missing_ok=True)

    def open(self, entry: Entry) -> None:
        """Note what a config was when its first run began."""
        place = self.folder / entry.key / 'config.json'
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            write_json(place, entry.about())

    def check(self, entries: Iterable[Entry]) -> None:
        """Raise ValueError if a config is another one than its runs here began with."""
        for entry in entries:
            place = self.folder / entry.key / 'config.json'
            try:
                before = json.loads(place.read_text(encoding='utf-8')).get('digest')
            except FileNotFoundError:
                continue
            except (ValueError, AttributeError):
                before = 'unreadable'
            if before != entry.digest:
                raise ValueError(
                    f'config {entry.key} has changed since its runs in {place.parent} began '
                    f'({before}, now {entry.digest}): rename it, take another --work-dir, or '
                    'delete that folder'
                )

    def next_stage(self, run: Run) -> str | None:
        """The first stage that is not done; None if all are, or one has failed."""
        for stage in self.stages:
            record = self.find(run, stage)
            if record is None:
                return stage
            if record.result == FAILED:
                return None
        return None

    def failure(self, run: Run) -> Record | None:
        """The record of the stage that failed, if one has."""
        return next((one for one in self.every(run).values() if one.result == FAILED), None)


def _read(path: Path) -> Record | None:
    try:
        return Record(**json.loads(path.read_text(encoding='utf-8')))
    except (FileNotFoundError, TypeError, ValueError):
        return None
