"""Every back end in half types errs at most twice as much as plain PyTorch."""

from __future__ import annotations

import sys

import pytest

from tests.ops import precision
from tests.ops.helpers import interpreted

pytestmark = pytest.mark.parametrize('dtype', precision.HALVES, ids=str)

CASES = {
    'two images': (precision.attention, ((300, 211), 3, 16, 8, 6, 5.0)),
    'odd head dim': (precision.attention, ((83, 10), 2, 13, 8, 6, None)),
    'pixel decoder': (precision.deform, (90, 61, 2, 8, 32, 3, 4, 4, 1.0)),
    'nine tokens': (precision.deform, (70, 11, 2, 2, 13, 3, 4, 9, 0.5)),
    'PointConv': (precision.merge, (120, 83, 9, 4, 64)),
    'interpolation': (precision.merge, (40, 97, 4, 1, 37)),
}


@pytest.mark.usefixtures('cpu_kernels')
@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('case', CASES)
def test_cpu(case, seed, dtype):
    make, sizes = CASES[case]
    precision.check(*make(sizes, seed), dtype)


@pytest.mark.usefixtures('emulated_cuda')
@pytest.mark.parametrize('op', precision.SMALL)
def test_cuda(op, dtype, monkeypatch):
    # The public function's conversions are those for a GPU.
    module = sys.modules[f'mmseg_arta.ops.{op}']
    monkeypatch.setattr(module, 'chosen_backend', lambda *arguments: 'cuda')
    precision.check(*precision.SMALL[op](), dtype)


@interpreted
@pytest.mark.parametrize('op', precision.SMALL)
def test_triton_in_half_types(op, dtype):
    precision.check(*precision.SMALL[op](), dtype)
