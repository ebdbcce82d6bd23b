"""A worker does not outlive the process that asks, whatever ended that."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmseg_arta.analysis.benchmark.worker import COMMAND
from tests.processes import python_environment

#: Starts a worker and asks for what takes ten minutes: a request that sleeps while it is read,
#: once it has made a file.
ASKING = """
import os, pickle, subprocess, sys, time
class Long:
    def __reduce__(self):
        return exec, (f'import time; open({sys.argv[2]!r}, "w").close(); time.sleep(600)',)
command = [sys.executable, '-c', sys.argv[1], str(os.getpid())]
worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
print(worker.pid, flush=True)
pickle.dump(Long(), worker.stdin)
worker.stdin.flush()
time.sleep(600)
"""


def runs(process: int) -> bool:
    try:
        return Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='needs /proc')
def test_a_worker_ends_amid_a_step_with_the_process_that_asks(tmp_path):
    reading = tmp_path / 'reading'
    asking = subprocess.Popen(
        [sys.executable, '-c', ASKING, COMMAND, str(reading)],
        stdout=subprocess.PIPE,
        text=True,
        env=python_environment(),
    )
    assert asking.stdout is not None
    with asking.stdout:
        worker = int(asking.stdout.readline())
    try:
        limit = time.monotonic() + 120
        while not reading.exists() and time.monotonic() < limit:
            time.sleep(0.1)
        assert reading.exists() and runs(worker)
        asking.kill()
        asking.wait()
        while runs(worker) and time.monotonic() < limit:
            time.sleep(0.1)
        assert not runs(worker)
    finally:
        asking.kill()
        asking.wait()
        if runs(worker):
            os.kill(worker, 9)
