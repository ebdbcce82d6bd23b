"""Runs whose process is killed at random moments end as if nobody had killed them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name('killed_runs.py')


@pytest.mark.skipif(sys.platform == 'win32', reason='Windows cannot fork processes')
@pytest.mark.parametrize('model', ['arta', 'step'])
def test_losses_and_weights_are_those_of_a_run_that_nobody_killed(
    model: str, tmp_path: Path
) -> None:
    command = [sys.executable, str(SCRIPT), model, str(tmp_path), '--kills', '1']
    done = subprocess.run(command, capture_output=True, text=True, cwd=SCRIPT.parents[2])
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found['kills'] == 1 and found['runs'] >= 1
