from __future__ import annotations

import pytest
import torch

from mmseg_arta.ops import balanced_clusters, build_neighborhood, nearest_clusters
from mmseg_arta.ops.balanced_clusters.reference import cluster_starts
from tests.helpers import load_fixture, mixed_places

FIXTURE = load_fixture('arta/space_filling_cluster.pt')
NEAREST = load_fixture('arta/nearest_clusters.pt')
RAGGED = [(40, 7, 123), (1,), (0, 9), (8, 16), (3, 0, 0, 2), (300, 5)]


@pytest.mark.parametrize('name', FIXTURE)
def test_order_is_that_of_the_published_sort_key(name):
    case = FIXTURE[name]
    batch, tokens, _ = case['pos'].shape
    images = torch.arange(batch).repeat_interleave(tokens)
    order, start = balanced_clusters(
        case['pos'].flatten(0, 1).int(),
        images,
        torch.full((batch,), tokens),
        (case['h'], case['w']),
        case['m'],
    )
    local = order.view(batch, tokens) - torch.arange(batch)[:, None] * tokens
    # The published key is rounded to float32, so that it ties where ours may not:
    # walking it in our order it must never fall by more than that rounding.
    walked = case['sort_key'].gather(1, local)
    assert (walked.diff(dim=1) >= -2e-7 * walked.abs().max()).all()
    assert (local == case['pos_ranking'][..., 0]).float().mean() > 0.93
    assert (start.diff() > 0).sum() == batch * -(-tokens // case['m'])


@pytest.mark.parametrize('lengths', RAGGED, ids=str)
def test_clusters_are_balanced_permutations_per_image(lengths):
    xy, batch, counts = mixed_places(lengths, (24, 40))
    order, start = balanced_clusters(xy, batch, counts, (24, 40))
    assert order.sort().values.tolist() == list(range(sum(lengths)))
    assert (batch[order].diff() >= 0).all()
    assert start.shape == (sum(lengths) // 8 + len(lengths) + 1,)
    sizes = [size for n in lengths for size in [8] * (n // 8) + ([n % 8] if n % 8 else [])]
    assert [size for size in start.diff().tolist() if size] == sizes


@pytest.mark.parametrize('lengths', RAGGED, ids=str)
def test_an_image_does_not_depend_on_its_batch(lengths):
    xy, batch, counts = mixed_places(lengths, (24, 40))
    order, _ = balanced_clusters(xy, batch, counts, (24, 40))
    row = 0
    for image, length in enumerate(lengths):
        mine = torch.where(batch == image)[0]
        alone, _ = balanced_clusters(
            xy[mine], torch.zeros(length, dtype=torch.long), torch.tensor([length]), (24, 40)
        )
        assert torch.equal(mine[alone], order[row : row + length])
        row += length


def test_equal_places_keep_their_order():
    xy = torch.tensor([[3, 4]] * 20, dtype=torch.int32)
    order, _ = balanced_clusters(xy, torch.zeros(20, dtype=torch.long), torch.tensor([20]), (8, 8))
    assert order.tolist() == list(range(20))


def test_mirrored_places_tie_and_keep_their_order():
    # Two places at the same distances from both anchors of a walk along x, above and
    # below it: floating point may not tell them apart.
    xy = torch.tensor([[5, 6], [5, 3]] * 4 + [[x, 4] for x in range(40)], dtype=torch.int32)
    for flipped in (xy, torch.stack((xy[:, 0], 9 - xy[:, 1]), 1)):
        order, _ = balanced_clusters(
            flipped, torch.zeros(48, dtype=torch.long), torch.tensor([48]), (10, 60)
        )
        ranks = [i for i in order.tolist() if i < 8]
        assert ranks == sorted(ranks)


@pytest.mark.parametrize('name', NEAREST)
def test_nearest_clusters_are_the_published_ones(name):
    case = NEAREST[name]
    batch, tokens, _ = case['pos'].shape
    start = cluster_starts(torch.full((batch,), tokens), batch * tokens, 8)
    nearest = nearest_clusters(case['pos'].flatten(0, 1).int(), start, (tokens,) * batch)
    nearest = nearest.view(batch, tokens, 6) - torch.arange(batch)[:, None, None] * -(-tokens // 8)
    assert torch.equal(nearest, case['nearest'])


@pytest.mark.parametrize('lengths', RAGGED, ids=str)
def test_nearest_clusters_are_exact_and_stay_in_their_image(lengths):
    xy, batch, counts = mixed_places(lengths, (24, 40), seed=1)
    hood = build_neighborhood(xy, batch, counts, lengths, (24, 40), num_neighbors=4)
    first = 0
    for image, length in enumerate(lengths):
        clusters = -(-length // 8)
        centers = (
            torch.stack(
                [
                    hood.xy[hood.start[c] : hood.start[c + 1]].double().mean(0)
                    for c in range(first, first + clusters)
                ]
            )
            if clusters
            else None
        )
        for row in torch.where(hood.batch == image)[0].tolist():
            distance = (centers - hood.xy[row]).square().sum(1)
            expected = distance.sort(stable=True).indices[:4] + first
            found = hood.neighbors[row]
            assert found[found >= 0].tolist() == expected.tolist()
        first += clusters


def test_neighborhood_orders_invert_each_other():
    lengths = (40, 7, 123)
    xy, batch, counts = mixed_places(lengths, (24, 40))
    hood = build_neighborhood(xy, batch, counts, lengths, (24, 40))
    rows = torch.randn(170, 3)
    assert torch.equal(hood.to_tokens(hood.to_clusters(rows)), rows)
    assert torch.equal(hood.xy, xy[hood.order]) and torch.equal(hood.batch, batch[hood.order])


def test_bad_sizes_are_refused():
    xy, batch, counts = mixed_places((9,), (8, 8))
    with pytest.raises(ValueError, match='cluster_size must be at least 1, found 0'):
        balanced_clusters(xy, batch, counts, (8, 8), 0)
    _, start = balanced_clusters(xy, batch, counts, (8, 8))
    with pytest.raises(ValueError, match='num_neighbors must be at least 1, found 0'):
        nearest_clusters(xy, start, (9,), num_neighbors=0)
