"""What tests start Python processes with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .pages import ROOT


def python_environment() -> dict[str, str]:
    """The variables of this process, with this source tree before what it already imports from."""
    before = os.environ.get('PYTHONPATH')
    path = os.pathsep.join([str(ROOT), before] if before else [str(ROOT)])
    return {**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'}


def outputs_of_two(script: Path, meeting: object) -> list[str]:
    """What two processes print that run a script with their rank and where they meet."""
    workers = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(meeting)],
            env=python_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        found = []
        for worker in workers:
            output, errors = worker.communicate(timeout=240)
            assert worker.returncode == 0, output + errors[-4000:]
            found.append(output)
        return found
    finally:
        for worker in workers:
            worker.kill()
