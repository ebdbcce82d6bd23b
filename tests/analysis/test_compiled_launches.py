"""Kernels of compiled models, by profile."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmseg_arta.analysis.compiled_launches import count_compiled, kernels_named


def test_elementwise_chains_become_one_kernel():
    layers = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 8)).eval()
    compiled, x = torch.compile(layers), torch.ones(3, 8)
    with torch.no_grad():
        with kernels_named():
            found = count_compiled(lambda: compiled(x))
        assert found == {'addmm': 2, 'generated': 1}
        # The same layers as they are, and views, which start nothing.
        plain = count_compiled(lambda: layers(x).view(-1).unsqueeze(0))
    assert plain == {'addmm': 2, 'gelu': 1, 'native_layer_norm': 1}


def test_a_model_that_never_settles_is_refused():
    compiled = torch.compile(lambda x: x + 1, dynamic=False)
    sizes = iter(range(1, 99))
    with kernels_named(), pytest.raises(RuntimeError, match='compiled anew in each of 6 runs'):
        count_compiled(lambda: compiled(torch.ones(next(sizes))))
