"""Row-wise computations in blocks: the same results, and only where they may be cut."""

from __future__ import annotations

import pytest
import torch

from mmseg_arta.models.layers import ClusterBlock, by_rows
from mmseg_arta.ops import build_neighborhood

ROWS = 512


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def counted(function):
    sizes = []

    def call(*rows):
        sizes.append(len(rows[0]))
        return function(*rows)

    return call, sizes


@pytest.mark.parametrize('rows', [0, 1, ROWS, 2 * ROWS - 1, 2 * ROWS, 3 * ROWS + 7])
@torch.no_grad()
def test_blocks_cover_all_rows(rows):
    x, y = torch.randn(rows, 3), torch.randn(rows, 2)
    call, sizes = counted(lambda a, b: (a.sum(1), b[:, None] * a[:, :2, None]))
    first, second = by_rows(call, x, y)
    torch.testing.assert_close(first, x.sum(1))
    torch.testing.assert_close(second, y[:, None] * x[:, :2, None])
    assert sum(sizes) == rows and max(sizes) <= (ROWS if rows >= 2 * ROWS else rows)
    assert torch.equal(by_rows(lambda a: a * 2, x), x * 2)


def test_called_once_where_gradients_are_kept():
    call, sizes = counted(lambda a: a.exp())
    x = torch.randn(4 * ROWS, 2, requires_grad=True)
    by_rows(call, x).sum().backward()
    assert sizes == [4 * ROWS]
    torch.testing.assert_close(x.grad, x.exp())
    with torch.no_grad():
        by_rows(call, x, whole=True)
    assert sizes == [4 * ROWS] * 2


def test_cluster_block_computes_the_same():
    y, x = torch.meshgrid(torch.arange(40), torch.arange(31), indexing='ij')
    xy = torch.stack((x.flatten(), y.flatten()), 1).int()
    lengths = (len(xy),)
    image = torch.zeros(len(xy), dtype=torch.long)
    hood = build_neighborhood(xy, image, torch.tensor(lengths), lengths, (40, 31))
    block = ClusterBlock(16, 2, drop_path=0.7, layer_scale_init=0.1).eval()
    feats = torch.randn(len(xy), 16)
    whole = block(feats.requires_grad_(), hood)
    with torch.no_grad():
        torch.testing.assert_close(block(feats, hood), whole)
        # One image, one draw: all rows keep a branch or none does.
        block.train()
        changed = [(block(feats, hood) != feats).any(1) for _ in range(20)]
    assert all(rows.all() or not rows.any() for rows in changed)
    assert {bool(rows.any()) for rows in changed} == {True, False}
