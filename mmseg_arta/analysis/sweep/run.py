"""Runs the jobs of a plan, and remembers what they came to."""

from __future__ import annotations

import logging
import shutil
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.logging import MMLogger

from ...datasets.toy import write_toy_dataset
from .jobs import run_mim, run_step
from .plan import BY_MIM, Job
from .records import FAILED, PASSED, SKIPPED, Record, Records

#: Toy images: enough for a batch, and for two test images.
_IMAGES: dict[str, Any] = dict(train=4, val=2, size=(128, 192), seed=0)

#: Characters of a reason that are shown.
_REASON = 200

Check = Callable[[Job, Path, Path], None]


def run_plan(
    plan: Sequence[Job],
    folder: Path,
    redo: bool = False,
    report: Callable[[int, Record], None] | None = None,
    check: Check | None = None,
) -> tuple[Record, ...]:
    """Check all configs that have not passed yet.

    Args:
        plan: the jobs.
        folder: where data, logs and records go.
        redo: check what has passed, too.
        report: called with every job's number and record as soon as there is one.
        check: runs a job, given the folder for data and the log's path; as the job says by
            default.
    """
    records = Records(folder / 'records')
    done = []
    for number, job in enumerate(plan):
        record = None if redo else _passed_before(job, records)
        if record is None:
            record = _run_job(job, folder, check or _check)
            records.write(record)
        done.append(record)
        if report is not None:
            report(number, record)
    return tuple(done)


def _passed_before(job: Job, records: Records) -> Record | None:
    if job.subject is None or job.skip:
        return None
    record = records.find(job.name, job.how, job.subject.digest)
    return record if record is not None and record.result == PASSED else None


def _run_job(job: Job, folder: Path, check: Check) -> Record:
    digest = job.subject.digest if job.subject is not None else ''
    if job.skip:
        return Record(job.name, job.how, SKIPPED, 0.0, digest, job.skip)
    log = folder / 'logs' / f'{job.name}.log'
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    where = str(log.relative_to(folder))
    start = time.monotonic()
    error = job.error
    if not error:
        try:
            check(job, folder, log)
        except Exception:
            error = traceback.format_exc()
    seconds = round(time.monotonic() - start, 1)
    if not error:
        return Record(job.name, job.how, PASSED, seconds, digest, '', where)
    with log.open('a') as out:
        out.write(error)
    reason = error.strip().splitlines()[-1][:_REASON]
    return Record(job.name, job.how, FAILED, seconds, digest, reason, where)


def _check(job: Job, folder: Path, log: Path) -> None:
    assert job.subject is not None
    data = folder / 'data' / job.subject.layout
    if not data.exists():
        write_toy_dataset(data, job.subject.layout, **_IMAGES)
    if job.how != BY_MIM:
        with _quiet():
            run_step(job.subject, data)
        return
    work_dir = folder / 'runs' / job.name
    try:
        with log.open('w') as out:
            run_mim(job.subject, data, work_dir, out)
    finally:
        # Checkpoints are large, and copies of configs would come up when mim looks for one.
        shutil.rmtree(work_dir, ignore_errors=True)


@contextmanager
def _quiet() -> Generator[None]:
    """Without the thousands of lines that tell of every parameter's group and start."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
