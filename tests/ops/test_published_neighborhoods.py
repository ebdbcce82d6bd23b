"""The published sort key with its rounding, on which parity of whole models depends."""

from __future__ import annotations

import pytest
import torch

from mmseg_arta.ops import published_neighborhood, published_sort_key
from tests.helpers import load_fixture

FIXTURE = load_fixture('arta/space_filling_cluster.pt')
AFF = load_fixture('aff/clustering.pt')


def places(case):
    """Arguments of both functions: ``xy``, ``batch`` and ``counts`` of all images."""
    batch, tokens, _ = case['pos'].shape
    images = torch.arange(batch).repeat_interleave(tokens)
    return case['pos'].flatten(0, 1).int(), images, torch.full((batch,), tokens)


def published_key(case):
    key = published_sort_key(*places(case), (case['h'], case['w']), case['m'])
    return key.view(case['pos'].shape[:2])


def cluster(case, near, arrival=None):
    """Local rows in cluster order ``(B, N)`` and the clusters."""
    batch, tokens, _ = case['pos'].shape
    sizes = ((tokens,) * batch, (case['h'], case['w']), case['m'], near)
    hood = published_neighborhood(*places(case), *sizes, arrival)
    return hood.order.view(batch, tokens) - torch.arange(batch)[:, None] * tokens, hood


@pytest.mark.parametrize('name', FIXTURE)
def test_key_and_order_are_the_published_ones(name):
    case = FIXTURE[name]
    assert torch.equal(published_key(case), case['sort_key'])
    order, _ = cluster(case, 6, torch.arange(case['pos'].shape[:2].numel()))
    assert torch.equal(order, case['pos_ranking'][..., 0])


@pytest.mark.parametrize('name', AFF)
def test_order_is_that_of_aff_but_for_equal_keys(name):
    case = AFF[name]
    key = published_key(case)
    assert (key.gather(1, case['order']).diff(dim=1) >= 0).all()
    order, _ = cluster(case, 3)
    assert torch.equal(key.gather(1, order), key.gather(1, case['order']))


@pytest.mark.parametrize('name', AFF)
def test_without_arrival_the_sort_is_that_of_aff(name):
    case = AFF[name]
    if not torch.equal(published_key(case)[..., None].sort(1).indices[..., 0], case['order']):
        pytest.skip('this PyTorch breaks ties otherwise than the one that made the fixture')
    order, hood = cluster(case, 3)
    assert torch.equal(order, case['order'])
    batch, tokens, _ = case['pos'].shape
    nearest = hood.neighbors.view(batch, tokens, 3)
    nearest = nearest - torch.arange(batch)[:, None, None] * -(-tokens // case['m'])
    assert torch.equal(nearest, case['nearest'])
