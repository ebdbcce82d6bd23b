"""The published sort key with its rounding, on which parity of whole models depends."""

from __future__ import annotations

import pytest
import torch

from mmseg_arta.ops.reference.published_clusters import published_neighborhood
from tests.helpers import load_fixture

FIXTURE = load_fixture('arta/space_filling_cluster.pt')


@pytest.mark.parametrize('name', FIXTURE)
def test_order_is_the_published_one(name):
    case = FIXTURE[name]
    batch, tokens, _ = case['pos'].shape
    hood = published_neighborhood(
        case['pos'].flatten(0, 1).int(),
        torch.arange(batch).repeat_interleave(tokens),
        torch.full((batch,), tokens),
        (tokens,) * batch,
        (case['h'], case['w']),
        case['m'],
        6,
        torch.arange(batch * tokens),
    )
    local = hood.order.view(batch, tokens) - torch.arange(batch)[:, None] * tokens
    assert torch.equal(local, case['pos_ranking'][..., 0])
