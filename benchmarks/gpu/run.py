"""Runs all that is to be measured on a GPU, within a budget of seconds.

    python benchmarks/gpu/run.py --budget 840 --out benchmarks/results/gpu

The most valuable stage comes first; each has a limit of its own, and so has each command. What
was done is not done again by a second call with the same folder. The first command that fails is
printed whole, later ones by their last lines; all output lies beside the results.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.gpu.stages import Job, Settings, stages
from mmseg_arta.files import write_json

ROOT = Path(__file__).resolve().parents[2]
#: Seconds under which no command is begun.
LEAST = 5.0
#: Lines of a command's output that are printed.
LINES = 30


class Progress:
    """What became of every command, in a file that is whole at all times.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, dict[str, Any]] = {}
        if path.is_file():
            self.found = json.loads(path.read_text(encoding='utf-8'))

    def is_done(self, job: Job) -> bool:
        """Whether the same command has ended well."""
        entry = self.found.get(job.name, {})
        return entry.get('state') == 'done' and entry.get('command') == list(job.command)

    def tell(self, job: Job, state: str, seconds: float) -> None:
        """Write down how a command ended."""
        entry = dict(state=state, seconds=round(seconds, 1), command=list(job.command))
        self.found[job.name] = entry
        write_json(self.path, self.found)

    @property
    def failed(self) -> list[str]:
        """Names of commands that did not end well."""
        return [name for name, entry in self.found.items() if entry['state'] != 'done']


def run_job(job: Job, seconds: float, log: Path, device: str = 'cuda') -> tuple[str, float]:
    """Run a command, its output into a file.

    Args:
        job: the command.
        seconds: after which it and what it started are ended.
        log: file for its output, replaced.
        device: 'cpu' hides GPUs, which training takes wherever it finds one.

    Returns:
        'done', 'failed' or 'timed out', and the seconds that it took.
    """
    command = [sys.executable if part == 'PYTHON' else part for part in job.command]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])
    environment = {'PYTHONWARNINGS': 'ignore', **os.environ, 'PYTHONPATH': path}
    if device == 'cpu':
        environment['CUDA_VISIBLE_DEVICES'] = ''
    begin = time.monotonic()
    with log.open('wb') as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
        try:
            code = process.wait(seconds)
            state = 'failed' if code else 'done'
        except BaseException as error:
            # Whatever ends this process, nothing shall keep the GPU.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            state = 'timed out'
    return state, time.monotonic() - begin


def show(log: Path, whole: bool) -> None:
    """Print a command's output, its end at least."""
    lines = log.read_text(encoding='utf-8', errors='replace').splitlines()
    print('\n'.join(lines if whole else lines[-LINES:]), flush=True)


def run(args: argparse.Namespace) -> int:
    """Run the stages; 1 if a command failed or was ended."""
    begin = time.monotonic()
    camvid = args.camvid.resolve() if args.camvid else None
    chosen = stages(Settings(args.device, args.out.resolve(), args.tiny, camvid))
    known = [stage.name for stage in chosen]
    unknown = [name for name in args.stages or () if name not in known]
    if unknown:
        raise ValueError(f'--stages: expected some of {", ".join(known)}, found {unknown[0]}')
    args.out.mkdir(parents=True, exist_ok=True)
    progress = Progress(args.out / 'progress.json')
    failures = 0
    for stage in chosen:
        if args.stages and stage.name not in args.stages:
            continue
        print(f'=== {stage.name}: {stage.says}', flush=True)
        stage_begin = time.monotonic()
        if not stage.jobs:
            print('nothing to do: --camvid names no folder', flush=True)
        for job in stage.jobs:
            if progress.is_done(job) and not args.again:
                print(f'--- {job.name}: done before', flush=True)
                continue
            left = min(
                job.seconds,
                stage.seconds - (time.monotonic() - stage_begin),
                args.budget - (time.monotonic() - begin),
            )
            if left < LEAST:
                print(f'--- {job.name}: no time left', flush=True)
                continue
            log = args.out / f'{job.name}.txt'
            state, seconds = run_job(job, left, log, args.device)
            progress.tell(job, state, seconds)
            print(f'--- {job.name}: {state} after {seconds:.0f} s', flush=True)
            show(log, whole=state != 'done' and not failures)
            failures += state != 'done'
    print(f'results: {args.out}, after {time.monotonic() - begin:.0f} s', flush=True)
    return int(failures > 0)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--stages', nargs='+', metavar='NAME', help='only these; default: all')
    add('--budget', type=float, default=540, metavar='SECONDS', help='for all (default: 540)')
    add('--out', type=Path, default=ROOT / 'benchmarks/results/gpu', metavar='FOLDER')
    add('--device', choices=('cuda', 'cpu'), default='cuda', help='cpu: to try it out')
    add('--tiny', action='store_true', help='small models and images: to try it out')
    add('--camvid', type=Path, metavar='FOLDER', help='CamVid as the configs expect it')
    add('--again', action='store_true', help='what was done before, too')
    args = parser.parse_args(argv)
    if args.budget <= 0:
        parser.error(f'--budget must be above 0, found {args.budget:g}')
    if args.camvid and not args.camvid.is_dir():
        parser.error(f'--camvid {args.camvid}: expected a folder, found none')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        return run(args)
    except (OSError, ValueError) as error:
        print(f'gpu: error: {error}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main())
