"""Triton kernels in Triton's interpreter against the reference, at small sizes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmseg_arta.ops import cluster_attention, neighborhood_merge, point_deform_attention
from mmseg_arta.ops import triton as triton_ops
from mmseg_arta.ops.backend import explain
from mmseg_arta.ops.reference import cluster_attention as ref_attention
from mmseg_arta.ops.reference import neighborhood_merge as ref_merge
from mmseg_arta.ops.reference import point_deform_attention as ref_deform
from tests.ops import (
    precision,
    test_cpu_cluster_attention,
    test_cpu_neighborhood_merge,
    test_cpu_point_deform_attention,
)
from tests.ops.cpu_cases import compare

INSTALLED = importlib.util.find_spec('triton') is not None
INSIDE = os.environ.get('TRITON_INTERPRET') == '1'


@pytest.mark.skipif(INSIDE, reason='runs the tests below')
def test_the_interpreter_agrees_with_the_reference():
    # The interpreter is chosen when Triton is imported first: a process of its own.
    if not INSTALLED:
        pytest.skip('Triton is not installed')
    environment = {**os.environ, 'TRITON_INTERPRET': '1', 'MMSEG_ARTA_OPS': 'triton'}
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-x', '-p', 'no:cacheprovider', __file__],
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
    monkeypatch.setattr(triton_ops, '_installed', lambda: False)
    assert triton_ops.unavailable() == 'Triton is not installed'
    assert explain('cluster_attention', 'cuda', torch.float32)[1]['triton'] == (
        'Triton is not installed'
    )
    monkeypatch.setattr(triton_ops, '_installed', lambda: True)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert 'finds no CUDA device' in triton_ops.unavailable()
    monkeypatch.setenv('TRITON_INTERPRET', '1')
    assert not triton_ops.unavailable()
    why = explain('cluster_attention', 'cpu', torch.float64)[1]
    assert why['triton'] == 'does not compute in float64'


inside = pytest.mark.skipif(not INSIDE, reason='run by the test above in a process of its own')


@inside
@pytest.mark.parametrize(
    'case',
    [
        ((11, 0, 6), 2, 16, 8, 3, 5.0),
        ((13,), 1, 13, 5, 2, None),
        ((1,), 1, 8, 8, 6, 0.1),
        ((0,), 2, 8, 8, 6, 5.0),
    ],
    ids=str,
)
def test_cluster_attention(case):
    tensors, hood, clamp = test_cpu_cluster_attention.make(*case)
    compare(
        lambda *t: cluster_attention(*t, hood, clamp),
        lambda *t: ref_attention.cluster_attention(*t, hood, clamp),
        tensors,
        test_cpu_cluster_attention.NAMES,
        dict.fromkeys(('bias_weight', 'bias_bias'), 1.0),
    )


@inside
@pytest.mark.parametrize(
    'sizes',
    [
        (20, 9, 2, 2, 8, 2, 2, 4, 3.0),
        (7, 3, 1, 1, 5, 1, 3, 3, 1.7),
        (5, 0, 1, 1, 4, 1, 1, 2, 3.0),
        (0, 3, 1, 1, 4, 1, 2, 2, 3.0),
    ],
    ids=str,
)
def test_point_deform_attention(sizes):
    tensors, places = test_cpu_point_deform_attention.make(*sizes)
    centers, nearest, batch = places
    truth = test_cpu_point_deform_attention.call(ref_deform, places)
    compare(
        lambda v, x, w, p: point_deform_attention(v, centers, nearest, batch, x, w, p),
        truth,
        tensors,
        test_cpu_point_deform_attention.NAMES,
        {'power': test_cpu_point_deform_attention.terms(tensors, places, truth)},
    )


@inside
@pytest.mark.parametrize(
    'sizes', [(9, 6, 3, 4, 20), (5, 4, 2, 1, 7), (4, 0, 3, 2, 8), (0, 3, 2, 2, 4)], ids=str
)
def test_neighborhood_merge(sizes):
    tensors, rows = test_cpu_neighborhood_merge.make(*sizes)
    compare(
        lambda feats, weights: neighborhood_merge(feats, rows, weights),
        lambda feats, weights: ref_merge.neighborhood_merge(feats, rows, weights),
        tensors,
        ('feats', 'weights'),
    )


@inside
@pytest.mark.parametrize('dtype', precision.HALVES, ids=str)
@pytest.mark.parametrize('op', precision.SMALL)
def test_half_types_err_at_most_twice_as_much_as_plain_pytorch(op, dtype):
    precision.check(*precision.SMALL[op](), dtype)
