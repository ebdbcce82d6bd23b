"""mim's commands in copies of the tests' process, which has imported all that they need.

Starting Python for mim, for the help of the stock tool, which mim reads first, and for the tool
itself takes more time than a small training. The tutorials, which run as written, and
``test_the_documented_launch`` start mim as users do.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from mim.cli import cli
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from mmseg.visualization import SegLocalVisualizer


def mim(*arguments: object, cwd: Path) -> str:
    """Output of a mim command, which has to succeed."""
    words = [str(argument) for argument in arguments]
    with tempfile.TemporaryFile() as log:
        if hasattr(os, 'fork'):
            _, status = os.waitpid(start(lambda: run_mim(words), log, cwd), 0)
            code = os.waitstatus_to_exitcode(status)
        else:
            command = [sys.executable, '-c', 'from mim.cli import cli; cli()', *words]
            code = subprocess.call(command, cwd=cwd, stdout=log, stderr=log, timeout=600)
        log.seek(0)
        output = log.read().decode(errors='replace')
    assert code == 0, output[-9000:]
    return output


def start(work: Callable[[], None], log: IO[bytes], cwd: Path | None = None) -> int:
    """Begin ``work`` in a copy of this process, its output added to ``log``; its number."""
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
        code = int(end.code or 0)
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
        sys.argv = command[1:]
        runpy.run_path(sys.argv[0], run_name='__main__')
        return 0

    # mim asks the tool for its help first.
    subprocess.check_call, subprocess.check_output = run_tool, lambda *args, **options: b''
    cli(list(arguments))
