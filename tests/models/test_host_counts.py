"""Token counts that a policy knows on the host: what it then selects, and that nothing is read."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmseg_arta.analysis.flops.count import EvenAllocation
from mmseg_arta.analysis.launches import LaunchCounter
from mmseg_arta.models import ARTA
from mmseg_arta.models.allocation import (
    AllocationPolicy,
    Candidates,
    FullAllocation,
    build_policy,
    segment_counts,
)
from mmseg_arta.structures import batch_index, offsets_from_lengths
from tests.builders import NANO, family_segmentor

CHECK = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
SHARES = st.tuples(*(st.floats(0.0, 1.0) for _ in range(3)))
COUNTS = st.lists(st.integers(0, 200), min_size=1, max_size=4)


def fixed(shares):
    return dict(type='FixedRatioAllocation', ratios=shares)


def known_policies(shares, budget):
    spend = dict(type='BudgetAllocation', tokens=budget)
    costs = dict(tokens=(0.01, 0.02, 0.03, 0.05), fixed=0.5, pairs=1e-6)
    return [
        fixed(shares),
        dict(type='FullAllocation'),
        dict(type='RandomAllocation', schedule=shares[:2], inference=shares[2]),
        spend,
        dict(type='BudgetAllocation', gflops=3 + budget / 50, costs=costs),
        dict(train=fixed(shares), test=spend),
        dict(type='OracleAllocation', rate=0.5, policy=fixed(shares)),
        dict(type='ReconsideringAllocation', policy=spend),
        EvenAllocation(shares),
    ]


def candidates(lengths, present=(), seed=0, levels=False):
    """Random scores, every other one equal to another."""
    torch.manual_seed(seed)
    offsets = offsets_from_lengths(lengths, torch.device('cpu'))
    total = sum(lengths)
    scores = torch.rand(total).mul(max(total // 2, 1)).floor()
    level = torch.zeros(total, dtype=torch.int64) if levels else None
    truth = torch.rand(total)
    return Candidates(scores, batch_index(offsets, total), offsets, lengths, level, present, truth)


@CHECK
@given(
    lengths=COUNTS,
    shares=SHARES,
    more=st.integers(0, 3000),
    number=st.integers(0, 2),
    training=st.booleans(),
    levels=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_known_counts_are_those_selected(lengths, shares, more, number, training, levels, seed):
    lengths = tuple(lengths)
    # Coarse tokens are the candidates of the first round, or a fourth of finer ones.
    earlier = tuple(tuple(-(-n // 4) for n in lengths) for _ in range(number))
    case = candidates(lengths, (*earlier, lengths), seed, levels)
    budget = max(sum(counts) for counts in zip(*case.present, strict=True)) + more
    for config in known_policies(shares, max(budget, 1)):
        policy = build_policy(config)
        selected = policy(case, number, training)
        known = policy.host_counts(case, number, training)
        assert known == tuple(segment_counts(selected, case.offsets).tolist()), policy
        assert all(type(count) is int for count in known)


def test_shares_round_as_on_the_device():
    # 0.29 * 100 is 28.999999999999996 in double precision.
    case = candidates((100, 7, 0, 1))
    policy = build_policy(fixed((0.29, 0.5, 1.0)))
    assert [policy.host_counts(case, number, False) for number in range(3)] == [
        (29, 2, 0, 0),
        (50, 3, 0, 0),
        (100, 7, 0, 1),
    ]


@pytest.mark.parametrize(
    'config',
    [
        dict(type='ThresholdAllocation'),
        dict(type='BatchRatioAllocation'),
        dict(type='BudgetAllocation', tokens=50, thresholds=(0.0, 0.0, 0.0)),
        dict(train=fixed((0.5,) * 3), test=dict(type='ThresholdAllocation')),
        dict(type='OracleAllocation', rate=0.5),
        dict(type='ReconsideringAllocation', policy=dict(type='ThresholdAllocation')),
    ],
    ids=lambda config: config.get('type', 'train, test'),
)
def test_what_data_decides_is_not_known(config):
    case = candidates((8,), present=((8,),))
    assert build_policy(config).host_counts(case, 0, False) is None


def test_a_policy_that_is_wrong_about_its_counts_is_named():
    class Wrong(FullAllocation):
        def host_counts(self, candidates, round_index, training):
            return tuple(length - 1 for length in candidates.lengths)

    model = ARTA(NANO, allocation=Wrong()).eval()
    with pytest.raises(ValueError, match=re.escape('said (3,)')), torch.no_grad():
        model(torch.randn(1, 3, 64, 64))


def test_a_policy_need_not_know():
    class Every(AllocationPolicy):
        uses_scores = False

        def __call__(self, candidates, round_index, training):
            return torch.ones_like(candidates.scores, dtype=torch.bool)

    model = ARTA(NANO, allocation=Every()).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found = model(image).tokens_per_image()
        model.policy = FullAllocation()
        assert found == model(image).tokens_per_image() == [[4], [16], [64], [256]]


STATIC = {
    'fixed': fixed((0.6, 0.5, 0.3)),
    'full': dict(type='FullAllocation'),
    'budget': dict(type='BudgetAllocation', tokens=60),
    'random': dict(type='RandomAllocation', schedule=(0.7, 0.4)),
}


@pytest.mark.parametrize('family', ['ARTA', 'DUPS'])
@pytest.mark.parametrize('policy', STATIC)
@torch.no_grad()
def test_inference_reads_nothing(family, policy):
    model = family_segmentor(family).eval()
    images = torch.randn(2, 3, 72, 96)
    metas = [dict(ori_shape=(72, 96), img_shape=(72, 96), pad_shape=(72, 96))] * 2

    def waits():
        model.inference(images, metas)
        counter = LaunchCounter(model)
        with counter:
            model.inference(images, metas)
        return counter.waits

    model.backbone.policy = build_policy(STATIC[policy])
    assert not waits()
    # The count is one of waits: a policy that does not know waits once a round.
    model.backbone.policy = build_policy(dict(type='ThresholdAllocation'))
    assert sum(waits().values()) == 3
    # As does a bound, which may cut what the policy selects.
    model.backbone.policy, model.backbone.max_tokens = build_policy(STATIC[policy]), 50
    assert sum(waits().values()) == 3
