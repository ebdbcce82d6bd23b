"""Two processes log the statistics of all images, whatever tokens the images of each have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import python_environment

WORKER = Path(__file__).with_name('statistics_worker.py')


def test_two_processes_log_what_one_does(tmp_path):
    workers = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(rank), str(tmp_path / 'store')],
            env=python_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for worker in workers:
            output, errors = worker.communicate(timeout=240)
            assert worker.returncode == 0, output + errors[-4000:]
            together, apart = json.loads(output.splitlines()[-1])
            # One image has candidates in the first round alone.
            assert {'val/score_round1', 'val/score_round3', 'val/boundary_covered'} < set(together)
            assert apart == pytest.approx(together)
            assert 0 < together['val/boundary_covered'] < 100
            assert together['val/tokens_round1'] == 8.0
    finally:
        for worker in workers:
            worker.kill()
