"""Row-wise layers in blocks of rows give what they give at once."""

from __future__ import annotations

import pytest
import torch
from mmseg.registry import MODELS
from torch import nn

from mmseg_arta.models.layers import row_blocks
from mmseg_arta.models.layers.row_blocks import by_rows
from tests.builders import NANO
from tests.builders import sparse_segmentor as segmentor


@pytest.fixture
def small_blocks(monkeypatch):
    """Four rows a block, two blocks being enough; the numbers of rows of all calls."""
    calls = []
    monkeypatch.setattr(row_blocks, 'ROWS', 4)
    monkeypatch.setattr(row_blocks, '_NUMBERS', 4)
    monkeypatch.setattr(row_blocks, '_LEAST_BLOCKS', 2)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 1)
    return calls


@pytest.mark.parametrize(
    'count, numbers, width, blocks',
    [
        (0, 4, 1, [0]),
        (1, 4, 1, [1]),
        (7, 4, 1, [7]),
        (8, 4, 1, [4, 4]),
        (9, 4, 1, [4, 4, 1]),
        (13, 1, 1, [4, 4, 4, 1]),
        (13, 16, 1, [12, 1]),  # few blocks of 16 rows: all but the rest at once
        (35, 32, 4, [8, 8, 8, 8, 3]),
        (38, 48, None, [8, 8, 8, 8, 4, 2]),  # six numbers in a row
    ],
    ids=str,
)
def test_blocks(small_blocks, monkeypatch, count, numbers, width, blocks):
    monkeypatch.setattr(row_blocks, '_NUMBERS', numbers)
    a, b = torch.randn(count, 3, 2), torch.arange(count)

    def function(a, b):
        small_blocks.append(len(a))
        return a.flatten(1) * 2 + b[:, None]

    with torch.no_grad():
        out = by_rows(function, a, b, width=width)
    assert small_blocks == blocks
    assert torch.equal(out, a.flatten(1) * 2 + b[:, None])


def test_at_once_where_blocks_would_be_wrong(small_blocks):
    x = torch.randn(9, 3)

    def function(x):
        small_blocks.append(len(x))
        return x * 2

    by_rows(function, x)  # gradients are on
    with torch.no_grad():
        by_rows(function, x, at_once=True)
        by_rows(function, x.to('meta'))
    assert small_blocks == [9, 9, 9]


def both_ways(module, call, monkeypatch):
    """What a call gives at once and in blocks, and how many more products that takes."""
    rows = []
    hooks = [
        layer.register_forward_hook(lambda _, args, out: rows.append(len(args[0])))
        for layer in module.modules()
        if isinstance(layer, nn.Linear)
    ]
    found = []
    with torch.no_grad():
        for least in (10**9, 2):
            monkeypatch.setattr(row_blocks, '_LEAST_BLOCKS', least)
            rows.clear()
            found.append((call(), len(rows)))
    for hook in hooks:
        hook.remove()
    (whole, once), (parts, often) = found
    return whole, parts, often - once


@pytest.mark.parametrize('mixed_block', ['cluster', 'msdeform'])
def test_segmentor(small_blocks, monkeypatch, mixed_block):
    torch.manual_seed(0)
    model = segmentor()
    model.backbone = MODELS.build(
        dict(
            type='ARTA',
            arch=NANO,
            mixed_block=mixed_block,
            allocation=dict(type='FixedRatioAllocation', ratios=(0.5, 0.5, 0.5)),
        )
    )
    model.eval()
    image = torch.randn(2, 3, 70, 97)
    metas = [dict(img_shape=(70, 97), ori_shape=(70, 97), pad_shape=(70, 97))] * 2
    whole, parts, more = both_ways(model, lambda: model.encode_decode(image, metas), monkeypatch)
    assert more > 50
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)


def test_merging_of_autofocusformer(small_blocks, monkeypatch):
    torch.manual_seed(0)
    arch = dict(dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), num_heads=(2, 2, 2, 2))
    model = MODELS.build(dict(type='AutoFocusFormer', arch=arch)).eval()
    image = torch.randn(1, 3, 96, 64)
    whole, parts, more = both_ways(model, lambda: model(image), monkeypatch)
    assert more > 20
    for a, b in zip(whole.levels, parts.levels, strict=True):
        assert torch.equal(a.xy, b.xy)
        torch.testing.assert_close(b.feats, a.feats, rtol=1e-4, atol=1e-5)
