"""Two CPU processes train one model without find_unused_parameters."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

WORKER = Path(__file__).with_name('distributed_worker.py')


@pytest.mark.parametrize(
    'thresholds',
    [(0.0, 0.0), (-1e9, 1e9), (1e9, 1e9)],
    ids=['some', 'one-rank-without-tokens', 'no-tokens-at-all'],
)
def test_ranks_stay_equal(thresholds, tmp_path):
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    workers = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(rank), str(port), str(threshold), str(tmp_path)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, threshold in enumerate(thresholds)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=180)
        assert worker.returncode == 0, errors
    first, second = (torch.load(tmp_path / f'{rank}.pth') for rank in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
