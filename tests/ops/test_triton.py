"""Triton: its kernels' tests in Triton's interpreter, and when it is chosen."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmseg_arta.ops import triton_backend
from mmseg_arta.ops.backend import explain

FOLDER = str(Path(__file__).parent)
CHOICE = ('-k', 'test_triton_')
INSTALLED = importlib.util.find_spec('triton') is not None
INSIDE = os.environ.get('TRITON_INTERPRET') == '1'


@pytest.mark.skipif(INSIDE, reason='runs other tests')
def test_the_interpreter_agrees_with_the_reference():
    # The interpreter is chosen when Triton is imported first: a process of its own.
    if not INSTALLED:
        pytest.skip('Triton is not installed')
    environment = {**os.environ, 'TRITON_INTERPRET': '1', 'MMSEG_ARTA_OPS': 'triton'}
    done = subprocess.run(
        [*(sys.executable, '-m', 'pytest', '-q', '-x', '-p', 'no:cacheprovider'), FOLDER, *CHOICE],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert 'passed' in done.stdout and 'failed' not in done.stdout


@pytest.mark.skipif(INSIDE, reason='of the usual process')
def test_why_it_is_not_chosen(monkeypatch):
    monkeypatch.delenv('MMSEG_ARTA_OPS', raising=False)
    monkeypatch.setattr(triton_backend, 'installed', lambda: False)
    assert triton_backend.unusable() == 'Triton is not installed'
    assert explain('cluster_attention', 'cuda', torch.float32)[1]['triton'] == (
        'Triton is not installed'
    )
    monkeypatch.setattr(triton_backend, 'installed', lambda: True)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert 'finds no CUDA device' in triton_backend.unusable()
    monkeypatch.setenv('TRITON_INTERPRET', '1')
    assert not triton_backend.unusable()
    why = explain('cluster_attention', 'cpu', torch.float64)[1]
    assert why['triton'] == 'does not compute in float64'
