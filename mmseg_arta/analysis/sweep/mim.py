"""Two training iterations and a test of a config by stock ``mim``."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch

from .overrides import ITERATIONS, as_arguments, overrides
from .subject import Subject

TIMEOUT = 3600  # seconds


def mim_command() -> str:
    """The ``mim`` command of this environment.

    Raises:
        RuntimeError: if there is none.
    """
    beside = Path(sys.executable).with_name('mim')
    found = str(beside) if beside.exists() else shutil.which('mim')
    if found is None:
        raise RuntimeError('no mim command was found; "make install" installs it (onedl-mim)')
    return found


def run_mim(subject: Subject, data_root: Path, work_dir: Path, log: IO[str]) -> None:
    """Train and test a config.

    Args:
        subject: the config.
        data_root: toy data set of its layout.
        work_dir: folder of the run; emptied before.
        log: what the commands print, and the commands themselves.

    Raises:
        RuntimeError: if a command fails or does not do what it should.
    """
    shutil.rmtree(work_dir, ignore_errors=True)
    options = overrides(subject, data_root)
    checkpoint = work_dir / f'iter_{ITERATIONS}.pth'
    train = ['train', 'mmsegmentation', str(subject.path)]
    _run([*train, *_place(work_dir), *as_arguments(options)], log)
    if not checkpoint.exists():
        raise RuntimeError(f'mim train wrote no {checkpoint}')
    test = ['test', 'mmsegmentation', str(subject.path), '--checkpoint', str(checkpoint)]
    _run([*test, *_place(work_dir / 'test'), *as_arguments(_of_test(options))], log)
    if not list((work_dir / 'test').glob('*/*.json')):
        raise RuntimeError(f'mim test wrote no metrics below {work_dir / "test"}')


def _place(work_dir: Path) -> list[str]:
    return ['--gpus', str(min(torch.cuda.device_count(), 1)), '--work-dir', str(work_dir)]


def _of_test(options: Mapping[str, Any]) -> dict[str, Any]:
    # A test must do without training data.
    return {
        key: 'missing' if key.startswith('train_') and key.endswith('data_root') else value
        for key, value in options.items()
    }


def _run(arguments: Sequence[str], log: IO[str]) -> None:
    command = [mim_command(), *arguments]
    print(f'$ {shlex.join(command)}', file=log, flush=True)
    # Threads that wait by spinning are slow where other programs run as well.
    environment = {'OMP_WAIT_POLICY': 'PASSIVE', **os.environ}
    try:
        code = subprocess.run(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            timeout=TIMEOUT,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        raise RuntimeError(f'mim {arguments[0]} did not end within {TIMEOUT} s') from None
    if code:
        raise RuntimeError(f'mim {arguments[0]} ended with exit code {code}')
