"""The C++ back end in half types errs at most twice as much as plain PyTorch."""

from __future__ import annotations

import pytest

from tests.ops import precision

pytestmark = [
    pytest.mark.usefixtures('cpu_kernels'),
    pytest.mark.parametrize('dtype', precision.HALVES, ids=str),
    pytest.mark.parametrize('seed', range(3)),
]

CASES = {
    'two images': (precision.attention, ((300, 211), 3, 16, 8, 6, 5.0)),
    'odd head dim': (precision.attention, ((83, 10), 2, 13, 8, 6, None)),
    'pixel decoder': (precision.deform, (90, 61, 2, 8, 32, 3, 4, 4, 1.0)),
    'nine tokens': (precision.deform, (70, 11, 2, 2, 13, 3, 4, 9, 0.5)),
    'PointConv': (precision.merge, (120, 83, 9, 4, 64)),
    'interpolation': (precision.merge, (40, 97, 4, 1, 37)),
}


@pytest.mark.parametrize('case', CASES)
def test_twice_the_error_of_plain_pytorch(case, seed, dtype):
    make, sizes = CASES[case]
    precision.check(*make(sizes, seed), dtype)
