"""What holds for every image, size, batch and policy."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mmseg_arta.models import ARTA, DUPS
from mmseg_arta.models.allocation import TokenCosts, build_policy
from tests.builders import NANO

POLICIES = {
    'threshold': dict(type='ThresholdAllocation', thresholds=(0.0, 0.0, 0.0)),
    'batch-ratio': dict(
        type='BatchRatioAllocation', thresholds=(0.0,) * 3, caps=(0.5, 0.7, 0.6), inference='batch'
    ),
    'fixed': dict(type='FixedRatioAllocation', ratios=(0.6, 0.5, 0.3)),
    'full': dict(type='FullAllocation'),
    'random': dict(type='RandomAllocation', schedule=(0.7, 0.4)),
    'budget': dict(type='BudgetAllocation', tokens=90),
    'reconsidering': dict(
        type='ReconsideringAllocation',
        policy=dict(type='ThresholdAllocation', thresholds=(0.02, 0.0, 0.0)),
    ),
    'reconsidering-budget': dict(
        type='ReconsideringAllocation', policy=dict(type='BudgetAllocation', tokens=90)
    ),
}
# Those that treat an image the same whatever it is batched with.
PER_IMAGE = [name for name in POLICIES if name not in ('random', 'batch-ratio')]
CHECK = settings(
    max_examples=3,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
SIZES = st.tuples(st.integers(1, 64), st.integers(1, 96))
SEEDS = st.integers(0, 2**16)


@cache
def encoder(kind):
    torch.manual_seed(0)
    model = kind(NANO, drop_path_rate=0.3)
    model.init_weights()
    for allocator in model.allocators:
        # Scores of random weights are nearly equal; let them differ by what tokens hold.
        torch.nn.init.normal_(allocator.score.layers[-1].weight)
    return model


def encode(policy, size, seed, batch=2, training=False, kind=ARTA):
    model = encoder(kind).train(training)
    model.policy = build_policy(POLICIES[policy] if isinstance(policy, str) else policy)
    torch.manual_seed(seed)
    images = torch.randn(batch, 3, *size)
    with torch.no_grad():
        return model, images, model(images)


def places(level):
    rows = zip(level.batch_index().tolist(), level.xy.tolist(), strict=True)
    return [(image, x, y) for image, (x, y) in rows]


def selected_places(tokens, patch_size):
    found = set()
    for record in tokens.rounds:
        if record.patch_size == patch_size:
            image = torch.arange(tokens.batch_size).repeat_interleave(record.offsets.diff())
            for b, (x, y), chosen in zip(
                image.tolist(), record.xy.tolist(), record.selected.tolist(), strict=True
            ):
                if chosen:
                    assert (b, x, y) not in found
                    found.add((b, x, y))
    return found


@pytest.mark.parametrize('training', [True, False], ids=['train', 'test'])
@pytest.mark.parametrize('policy', POLICIES)
@CHECK
@given(size=SIZES, seed=SEEDS, batch=st.integers(1, 3))
def test_tokens_cover_and_nest(policy, training, size, seed, batch):
    _, _, tokens = encode(policy, size, seed, batch, training)
    rows, cols = (-(-side // 32) for side in size)
    # Every patch of the image has its coarse token in the first and so in every stage.
    assert places(tokens.levels[0]) == [
        (b, 8 * x, 8 * y) for b in range(batch) for y in range(rows) for x in range(cols)
    ]
    for coarse, fine in zip(tokens.levels, tokens.levels[1:], strict=False):
        unit = coarse.unit
        found = places(fine)
        # Raster order, no place twice.
        assert found == sorted(set(found), key=lambda place: (place[0], place[2], place[1]))
        parents = {(b, x // unit * unit, y // unit * unit) for b, x, y in found}
        # Finer tokens under selected parents alone, and under all of those, four each.
        assert parents == selected_places(tokens, coarse.patch_size)
        assert parents <= set(places(coarse))
        assert len(found) == 4 * len(parents)
        assert fine.lengths == tuple(sum(b == image for b, _, _ in found) for image in range(batch))
    assert all(torch.isfinite(level.feats).all() for level in tokens.levels)


def lengths(tokens):
    return [level.lengths for level in tokens.levels]


@CHECK
@given(size=SIZES, seed=SEEDS, training=st.booleans())
def test_fixed_shares_are_met(size, seed, training):
    for name, shares in (
        ('fixed', (0.6, 0.5, 0.3)),
        ('full', (1.0,) * 3),
        ('random', (0.7 if training else 0.4,) * 3),
    ):
        _, _, tokens = encode(name, size, seed, training=training)
        for coarse, fine, share in zip(tokens.levels, tokens.levels[1:], shares, strict=False):
            wanted = tuple(4 * math.floor(n * share + 1e-6) for n in coarse.lengths)
            assert fine.lengths == wanted


@CHECK
@given(size=SIZES, seed=SEEDS)
def test_thresholds_are_met(size, seed):
    for name in ('threshold', 'batch-ratio'):
        _, _, tokens = encode(name, size, seed, training=name == 'batch-ratio')
        for record, level, cap in zip(
            tokens.rounds, tokens.levels[1:], (0.5, 0.7, 0.6), strict=True
        ):
            # Patches beyond the image are refined by no threshold.
            shown = (record.xy[:, 0] * 4 < size[1]) & (record.xy[:, 1] * 4 < size[0])
            passed = (record.scores > 0) & shown
            above = [int(part.sum()) for part in passed.split(record.lengths)]
            if name == 'batch-ratio':
                share = max(a / max(n, 1) for a, n in zip(above, record.lengths, strict=True))
                share = torch.tensor(min(max(share, 0.1), cap), dtype=torch.float32)
                above = [int(torch.tensor(float(n)) * share) for n in record.lengths]
            assert level.lengths == tuple(4 * count for count in above)


@pytest.mark.parametrize('policy', PER_IMAGE)
@CHECK
@given(size=SIZES, seed=SEEDS, order=st.permutations(range(3)))
def test_permuting_the_batch_permutes_the_result(policy, size, seed, order):
    model, images, tokens = encode(policy, size, seed, batch=3)
    with torch.no_grad():
        permuted = model(images[list(order)])
    for level, other in zip(tokens.levels, permuted.levels, strict=True):
        parts, others = level.feats.split(level.lengths), other.feats.split(other.lengths)
        corners, other_corners = level.xy.split(level.lengths), other.xy.split(other.lengths)
        for index, source in enumerate(order):
            assert torch.equal(other_corners[index], corners[source])
            torch.testing.assert_close(others[index], parts[source], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('policy', POLICIES)
@CHECK
@given(size=SIZES, seed=SEEDS)
def test_the_same_seed_gives_the_same_tokens(policy, size, seed):
    first, second = (encode(policy, size, seed, training=True)[2] for _ in range(2))
    for one, other in zip(first.levels, second.levels, strict=True):
        assert torch.equal(one.xy, other.xy) and torch.equal(one.feats, other.feats)


@pytest.mark.parametrize('reconsider', [False, True], ids=['plain', 'reconsidering'])
@CHECK
@given(size=SIZES, seed=SEEDS, spare=st.integers(0, 1000), gflops=st.booleans())
def test_budget_is_never_exceeded(reconsider, size, seed, spare, gflops):
    coarse = -(-size[0] // 32) * -(-size[1] // 32)
    costs = TokenCosts((1.0,) * 4)
    policy = dict(type='BudgetAllocation', tokens=coarse + spare)
    if gflops:
        costs = TokenCosts((0.03, 0.01, 0.005, 0.002), fixed=2.0, pairs=1e-4)
        budget = costs.total((coarse, 0, 0, 0)) + spare / 300
        policy = dict(type='BudgetAllocation', gflops=budget, costs=costs)
    budget = policy.get('gflops', policy.get('tokens'))
    if reconsider:
        policy = dict(type='ReconsideringAllocation', policy=policy)
    _, _, tokens = encode(policy, size, seed, batch=2, kind=DUPS)
    full = (coarse, coarse * 4, coarse * 16, coarse * 64)
    for image in zip(*lengths(tokens), strict=True):
        assert costs.total(image) <= budget + 1e-9
        if not reconsider and image != full:
            assert costs.total(image) > budget - 4 * costs.tokens[3] - 1e-9
