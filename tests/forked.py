"""Programs in copies of the tests' process, which has imported all that they need.

Starting Python for mim, for the help of the stock tool, which mim reads first, and for the tool
itself takes more time than a small training. The tutorials, which run as written, and
``test_the_documented_launch`` start mim as users do.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from mim.cli import cli
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from mmseg.visualization import SegLocalVisualizer

from mmseg_arta.analysis.benchmark import worker


def mim(*arguments: object, cwd: Path) -> str:
    """Output of a mim command, which has to succeed."""
    words = [str(argument) for argument in arguments]
    with tempfile.TemporaryFile() as log:
        if hasattr(os, 'fork'):
            code = ended(start(lambda: run_mim(words), log, cwd))
        else:
            command = [sys.executable, '-c', 'from mim.cli import cli; cli()', *words]
            code = subprocess.call(command, cwd=cwd, stdout=log, stderr=log, timeout=600)
        log.seek(0)
        output = log.read().decode(errors='replace')
    assert code == 0, output[-9000:]
    return output


def outputs_of_two(work: Callable[[int], None]) -> list[str]:
    """What two processes print that do ``work``, given their rank, and have to succeed."""
    with ExitStack() as stack:
        logs = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(2)]
        pids = [start(partial(work, rank), log) for rank, log in enumerate(logs)]
        codes = [ended(pid) for pid in pids]
        found = []
        for code, log in zip(codes, logs, strict=True):
            log.seek(0)
            found.append(log.read().decode(errors='replace'))
            assert code == 0, found[-1][-4000:]
        return found


def ended(pid: int, seconds: float = 600.0) -> int:
    """Exit code of a process; one that takes longer is killed."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run_script(script: Path, *arguments: object) -> None:
    """A script as the program of this process, which is none that goes on after it."""
    sys.argv = [str(script), *map(str, arguments)]
    runpy.run_path(str(script), run_name='__main__')


class ForkedWorker:
    """As much of ``subprocess.Popen`` as a benchmark's worker needs, without another Python."""

    def __init__(self, command: Sequence[str], stderr: IO[bytes], **options: Any) -> None:
        requests, answers = os.pipe(), os.pipe()
        asking = os.getpid()

        def work() -> None:
            os.dup2(requests[0], 0)
            os.dup2(answers[1], 3)
            # The ends of other workers' pipes too, or theirs would stay open.
            os.closerange(4, 1024)
            sys.stdin = os.fdopen(0)
            worker.serve(os.fdopen(3, 'wb'), asking)

        self.pid = start(work, stderr)
        os.close(requests[0])
        os.close(answers[1])
        self.stdin, self.stdout = os.fdopen(requests[1], 'wb'), os.fdopen(answers[0], 'rb')

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def start(work: Callable[[], None], log: IO[bytes], cwd: Path | None = None) -> int:
    """Begin ``work`` in a copy of this process, its output added to ``log``; its number."""
    if not hasattr(os, 'fork'):
        pytest.skip('needs fork')
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(os.dup(1), 'w'), os.fdopen(os.dup(2), 'w')
        if cwd is not None:
            os.chdir(cwd)
        torch.set_num_threads(1)
        # What runs of earlier tests have left: a new process has none of it, and their visualizer
        # would write this run's losses into their folder.
        for kind in (SegLocalVisualizer, Visualizer, MMLogger, MessageHub, DefaultScope):
            kind._instance_dict.clear()
        work()
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run_mim(arguments: Sequence[str]) -> None:
    """A mim command with the stock tool in this process, which is none that goes on after it."""
    call, output = subprocess.check_call, subprocess.check_output

    def run_tool(command: list[str], **options: Any) -> int:
        subprocess.check_call, subprocess.check_output = call, output
        run_script(Path(command[1]), *command[2:])
        return 0

    # mim asks the tool for its help first.
    subprocess.check_call, subprocess.check_output = run_tool, lambda *args, **options: b''
    cli(list(arguments))
