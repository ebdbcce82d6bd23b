"""Two processes log the statistics of all images, whatever tokens the images of each have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.forked import outputs_of_two, run_script

WORKER = Path(__file__).with_name('statistics_worker.py')


def test_two_processes_log_what_one_does(tmp_path):
    for output in outputs_of_two(lambda rank: run_script(WORKER, rank, tmp_path / 'store')):
        together, apart = json.loads(output.splitlines()[-1])
        # One image has candidates in the first round alone.
        assert {'val/score_round1', 'val/score_round3', 'val/boundary_covered'} < set(together)
        assert apart == pytest.approx(together)
        assert 0 < together['val/boundary_covered'] < 100
        assert together['val/tokens_round1'] == 8.0
