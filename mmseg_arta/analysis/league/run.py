"""Takes runs through their stages, some at a time."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import stages
from .plan import Run
from .processes import Process, cores
from .records import DONE, FAILED, Record, Store
from .stages import Place, StageFailed, checkpoint_of, number_of, reason_of
from .time_left import Clock

_POLL = 0.1  # seconds
# Signals by which people and systems that shut down end a program: no failure of the run.
_ASKED = tuple(
    getattr(signal, name) for name in ('SIGTERM', 'SIGINT', 'SIGHUP') if hasattr(signal, name)
)

#: Told of every run that ends, and of the seconds that are left, if that is known.
Report = Callable[[Run, float | None], None]


@dataclass
class Slot:
    """A place for one command at a time.

    Attributes:
        core: that it uses; None for all.
        run, stage, process: what it does now.
        resumed: iterations or epochs done before the stage's command was started.
    """

    core: int | None = None
    run: Run | None = None
    stage: str = ''
    process: Process | None = None
    resumed: int = 0


@dataclass
class League:
    """All runs of a call.

    Attributes:
        runs: in order.
        store: where they lie.
        place: where they run.
        machine: the same in words.
        slots: so many at once.
        kept_open: descriptors that commands inherit.
        interrupted: runs whose command was ended from outside.
    """

    runs: Sequence[Run]
    store: Store
    place: Place
    machine: str = ''
    slots: Sequence[Slot] = field(default_factory=lambda: [Slot()])
    kept_open: Sequence[int] = ()
    interrupted: list[Run] = field(default_factory=list)

    def left(self) -> float | None:
        """Seconds until all runs have ended; None if nothing of the kind was measured yet."""
        clock = Clock.of(self.runs, self.store)
        now = {
            slot.run.name: (slot.stage, slot.process.seconds if slot.process else 0.0)
            for slot in self.slots
            if slot.run is not None
        }
        return clock.left(self.runs, self.store, now, len(self.slots))


def make_slots(jobs: int, device: str) -> list[Slot]:
    """Slots for so many trainings at once; on a CPU each has a core of its own.

    Raises:
        ValueError: if there are not as many cores.
    """
    if jobs < 1:
        raise ValueError(f'--jobs must be at least 1, found {jobs}')
    if device != 'cpu':
        return [Slot() for _ in range(jobs)]
    known = cores()
    if not known:
        return [Slot() for _ in range(jobs)]
    if jobs > len(known):
        raise ValueError(
            f'--jobs {jobs}: every training has a CPU core of its own, and this process may use '
            f'{len(known)}'
        )
    return [Slot(core) for core in known[:jobs]]


def play(league: League, report: Report | None = None) -> None:
    """Take every run through the stages that are left; runs that have failed stay as they are.

    What runs ends with this call, also if an exception ends it.
    """
    waiting = [run for run in league.runs if league.store.next_stage(run) is not None]
    try:
        while waiting or any(slot.run for slot in league.slots):
            for slot in league.slots:
                if slot.run is None and waiting:
                    slot.run = waiting.pop(0)
                if slot.run is not None:
                    ended = _advance(league, slot)
                    if ended is not None and report is not None:
                        report(ended, league.left())
            time.sleep(_POLL)
    finally:
        for slot in league.slots:
            if slot.process is not None:
                slot.process.end()
                _keep_peak(league, slot.run, slot.stage, slot.process)
            slot.run, slot.process = None, None


def retry(runs: Sequence[Run], store: Store) -> list[Run]:
    """Forget the failures of runs; returns those that had failed.

    A training goes on from its last checkpoint.
    """
    found = []
    for run in runs:
        failure = store.failure(run)
        if failure is not None:
            store.forget(run, failure.stage)
            found.append(run)
    return found


def _advance(league: League, slot: Slot) -> Run | None:
    """Start or look at the command of a slot; returns a run that has ended."""
    run = slot.run
    assert run is not None
    if slot.process is None:
        stage = league.store.next_stage(run)
        if stage is None:
            slot.run = None
            return run
        return _start(league, slot, run, stage)
    code = slot.process.poll()
    if code is None:
        return None
    process, stage = slot.process, slot.stage
    slot.process = None
    with league.store.log(run, stage).open('rb') as log:
        log.seek(process.begin)
        text = log.read().decode(errors='replace')
    if code and _asked(code, text):
        league.interrupted.append(run)
        _keep_peak(league, run, stage, process)
        slot.run = None
        return run
    whole = run.entry.length
    seconds, peak = process.seconds, process.peak
    # Of a process that found all iterations done the training's time and memory are not known.
    trained = not (stage == 'train' and whole and slot.resumed >= whole)
    if not trained:
        peak = None
    elif stage == 'train' and whole:
        seconds /= 1 - slot.resumed / whole
    digest = run.entry.digest
    try:
        if code:
            raise StageFailed(reason_of(text, code))
        found = stages.figures(run, stage, league.store, peak)
        if not trained:
            seconds = whole * found['iteration_seconds']
    except StageFailed as error:
        record = Record(stage, FAILED, digest, seconds, {}, str(error), league.machine)
    else:
        record = Record(stage, DONE, digest, seconds, found, '', league.machine)
    league.store.write(run, record)
    return None


def _start(league: League, slot: Slot, run: Run, stage: str) -> Run | None:
    store = league.store
    store.open(run.entry)
    slot.stage = stage
    slot.resumed = number_of(checkpoint_of(store.of(run) / 'train')) if stage == 'train' else 0
    try:
        command = stages.command(run, stage, store, league.place)
    except StageFailed as error:
        store.write(run, Record(stage, FAILED, run.entry.digest, reason=str(error)))
        return None
    environment = league.place.environment()
    log: Path = store.log(run, stage)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('a', encoding='utf-8') as out:
        print(f'$ {shlex.join(command)}', file=out)
    slot.process = Process(command, log, environment, slot.core, league.kept_open)
    return None


def _keep_peak(league: League, run: Run | None, stage: str, process: Process) -> None:
    """A training that goes on later has used this memory, too."""
    if run is not None and stage == 'train':
        stages.keep_peak(league.store.of(run) / stage, process.peak)


def _asked(code: int, text: str) -> bool:
    """Whether a command, or the one inside it, was ended by a signal that asks for that."""
    reason = reason_of(text, code)
    return any(reason == f'ended by signal {int(number)}' for number in _ASKED)
