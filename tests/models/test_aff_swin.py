"""The Swin baseline of AutoFocusFormer."""

from __future__ import annotations

import pytest
import torch

from mmseg_arta.models import AFFSwin
from mmseg_arta.models.backbones.aff_downsampling import PatchMerging

SMALL = dict(dims=(8, 16, 24, 32), depths=(2, 1, 1, 1), num_heads=(2, 2, 2, 2), mlp_ratio=2.0)


def test_published_parameter_count():
    with torch.device('meta'):
        model = AFFSwin('mini')
    count = sum(p.numel() for p in model.parameters())
    # A classifier has the last stage's norm alone, and a linear layer to 1000 classes.
    classifier = count - 2 * (32 + 128 + 256) + 384 * 1000 + 1000
    assert round(classifier / 1e6, 2) == 6.76


@pytest.mark.parametrize('size', [(64, 96), (61, 35)], ids=str)
def test_maps_and_gradients(size):
    model = AFFSwin(SMALL, window_size=4, drop_path_rate=0.1)
    model.init_weights()
    maps = model(torch.randn(2, 3, *size))
    rows, cols = (-(-side // 4) for side in size)
    for dim, found in zip(SMALL['dims'], maps, strict=True):
        assert found.shape == (2, dim, rows, cols)
        rows, cols = -(-rows // 2), -(-cols // 2)
    sum(found.square().sum() for found in maps).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_every_second_block_is_shifted():
    model = AFFSwin('mini')
    shifts = [[block.attn.shift for block in stage] for stage in model.stages]
    assert shifts == [[0, 3], [0, 3], [0, 3] * 3, [0, 3]]


def test_merging_joins_four_neighbours():
    merge = PatchMerging(1, 4)
    torch.nn.init.eye_(merge.proj.weight)
    merge.norm = torch.nn.Identity()
    grid = torch.arange(6.0).view(1, 2, 3, 1)
    found = merge(grid)
    # Down first, then right; beyond the edge are zeros.
    assert found.tolist() == [[[[0, 3, 1, 4], [2, 5, 0, 0]]]]
