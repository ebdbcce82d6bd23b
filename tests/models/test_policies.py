"""Every allocation policy by itself, on candidates made by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmseg.registry import HOOKS, MODELS
from torch import nn

from mmseg_arta.models.allocation import (
    BudgetAllocation,
    Candidates,
    FixedRatioAllocation,
    FullAllocation,
    OracleAllocation,
    RandomAllocation,
    ReconsideringAllocation,
    ThresholdAllocation,
    TokenCosts,
    TrainTestAllocation,
    build_policy,
)
from mmseg_arta.structures import batch_index, offsets_from_lengths


def candidates(lengths, scores=None, **fields):
    offsets = offsets_from_lengths(lengths, torch.device('cpu'))
    scores = torch.rand(sum(lengths)) if scores is None else torch.tensor(scores)
    return Candidates(scores, batch_index(offsets, sum(lengths)), offsets, lengths, **fields)


def counts(selected, lengths):
    return [int(part.sum()) for part in selected.split(lengths)]


def test_fixed_ratio_rounds_down_and_takes_the_highest():
    case = candidates((100, 7, 0))
    selected = FixedRatioAllocation((0.29, 0.5, 1.0))(case, 0, True)
    assert counts(selected, case.lengths) == [29, 2, 0]
    first = case.scores[:100]
    assert first[selected[:100]].min() >= first[~selected[:100]].max()
    selected = FixedRatioAllocation((0.29, 0.5, 1.0))(case, 2, False)
    assert counts(selected, case.lengths) == [100, 7, 0]


def test_full_takes_all():
    assert FullAllocation()(candidates((3, 0, 2)), 1, True).all()


def test_random_follows_its_schedule():
    policy = RandomAllocation(schedule=(1.0, 0.5))
    case = candidates((64, 10))
    found = []
    for progress in (0.0, 0.5, 1.0):
        policy.set_progress(progress)
        found.append(counts(policy(case, 0, True), case.lengths))
    assert found == [[64, 10], [48, 7], [32, 5]]
    policy.set_progress(0.0)
    assert counts(policy(case, 0, False), case.lengths) == [32, 5]
    assert counts(RandomAllocation(inference=0.25)(case, 0, False), case.lengths) == [16, 2]


def test_random_is_random_but_not_by_score():
    policy, case = RandomAllocation((0.5, 0.5)), candidates((64,))
    first, second = policy(case, 0, True), policy(case, 0, True)
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    again = policy(case, 0, True)
    torch.manual_seed(3)
    assert torch.equal(policy(case, 0, True), again)


@pytest.mark.parametrize('mode', [True, False], ids=['train', 'test'])
def test_train_and_test_differ(mode):
    policy = build_policy(
        dict(
            train=dict(type='FullAllocation'),
            test=dict(type='FixedRatioAllocation', ratios=(0.5, 0.5, 0.5)),
        )
    )
    assert isinstance(policy, TrainTestAllocation)
    assert int(policy(candidates((8,)), 0, mode).sum()) == (8 if mode else 4)


def test_oracle_rate_is_a_share_of_batches():
    policy = OracleAllocation(0.3, dict(type='ThresholdAllocation', thresholds=(0.5,) * 3))
    case = candidates((4,), [0.9, 0.1, 0.1, 0.1], truth=torch.tensor([0.0, 1.0, 1.0, 0.0]))
    true, predicted = [False, True, True, False], [True, False, False, False]
    drawn = 0
    for _ in range(400):
        first = policy(case, 0, True).tolist()
        # One draw counts for all rounds of a batch.
        assert policy(case, 1, True).tolist() == policy(case, 2, True).tolist() == first
        assert first in (true, predicted)
        drawn += first == true
        assert policy(case, 0, False).tolist() == predicted
    assert 0.2 < drawn / 400 < 0.4


def test_oracle_extremes_and_missing_truth():
    without = candidates((4,), [0.9, 0.1, 0.1, 0.1])
    never = OracleAllocation(0.0, ThresholdAllocation((0.5,) * 3))
    assert all(int(never(without, 0, True).sum()) == 1 for _ in range(20))
    always = OracleAllocation(1.0)
    with pytest.raises(ValueError, match="type='OracleEncoderDecoder'"):
        always(without, 0, True)
    assert always(without, 0, False).all()


def run_budget(policy, size=(64, 2), scores=None):
    """Tokens per level and image after three rounds of splitting what the policy selects."""
    present = [tuple(size)]
    for index in range(3):
        case = candidates(present[-1], present=tuple(present))
        selected = policy(case, index, False)
        present.append(tuple(4 * count for count in counts(selected, case.lengths)))
    return list(zip(*present, strict=True))


@pytest.mark.parametrize('budget', [64, 67, 68, 100, 500, 1000, 5440, 9999])
def test_token_budget_is_met(budget):
    found = run_budget(BudgetAllocation(tokens=budget), (64, 60))
    for image in found:
        full = image[0] * 85
        assert sum(image) <= budget
        assert sum(image) > min(budget, full) - 4


def test_gflops_budget_is_met():
    costs = dict(tokens=(0.03, 0.01, 0.005, 0.002), fixed=2.0, pairs=1e-4)
    policy = BudgetAllocation(gflops=12.0, costs=costs)
    for image in run_budget(policy, (64, 40)):
        assert 12.0 - 4 * 0.002 <= TokenCosts(**costs).total(image) <= 12.0


def test_budget_may_be_left_where_nothing_is_above_the_thresholds():
    policy = BudgetAllocation(tokens=400, thresholds=(2.0, 0.0, 0.0))
    assert run_budget(policy, (64,)) == [(64, 0, 0, 0)]


def test_budget_below_the_coarse_tokens_is_an_error():
    with pytest.raises(ValueError, match='budget of 63 tokens per image is below the 64'):
        run_budget(BudgetAllocation(tokens=63), (64,))


def test_budget_takes_the_highest_scores():
    scores = torch.arange(64.0) / 64
    case = candidates((64,), scores.tolist(), present=((64,),))
    selected = BudgetAllocation(tokens=200)(case, 0, False)
    number = int(selected.sum())
    assert 0 < number < 64 and selected[-number:].all()


def test_costs_are_found_from_measurements():
    costs = TokenCosts((0.03, 0.01, 0.005, 0.002), 2.0, 1e-4)
    passes = [
        (n, 4 * a, 4 * b, 4 * c)
        for n, a, b, c in [
            (16, 0, 0, 0), (16, 16, 0, 0), (16, 16, 64, 0), (16, 16, 64, 256),
            (64, 0, 0, 0), (64, 9, 7, 3), (256, 20, 0, 5), (256, 100, 50, 80),
        ]
    ]  # fmt: skip
    found = TokenCosts.fit(passes, [costs.total(row) for row in passes])
    assert found.tokens == pytest.approx(costs.tokens, rel=1e-6)
    assert (found.fixed, found.pairs) == pytest.approx((2.0, 1e-4), rel=1e-6)
    assert TokenCosts.of(found.to_config()) == found
    with pytest.raises(ValueError, match='do not determine'):
        TokenCosts.fit(passes[:4], [1.0] * 4)


def test_measured_costs_are_never_underestimated():
    costs = TokenCosts((0.03, 0.01, 0.005, 0.002), 2.0, 1e-4)
    generator = torch.Generator().manual_seed(0)
    passes = torch.randint(0, 300, (40, 4), generator=generator).tolist()
    noise = torch.rand(40, generator=generator).tolist()
    measured = [costs.total(row) + 0.1 * extra for row, extra in zip(passes, noise, strict=True)]
    found = TokenCosts.fit(passes, measured)
    assert all(found.total(row) >= cost for row, cost in zip(passes, measured, strict=True))


def test_reconsidering_compares_a_token_with_its_own_levels_threshold():
    level = torch.tensor([0, 0, 1, 2])
    case = candidates((4,), [0.2, 0.6, 0.6, 0.6], level=level)
    policy = ReconsideringAllocation(ThresholdAllocation((0.5, 0.7, 0.1)))
    assert policy(case, 2, True).tolist() == [False, True, False, True]
    assert policy.reconsiders(True) and not policy.policy.reconsiders(True)
    split = TrainTestAllocation(train=policy.policy, test=policy)
    assert [split.reconsiders(mode) for mode in (True, False)] == [False, True]


@pytest.mark.parametrize(
    'config, message',
    [
        (dict(type='FixedRatioAllocation', ratios=(0.5, 1.5, 0.5)), r'shares in \[0, 1\]'),
        (dict(type='FixedRatioAllocation', ratios=(0.5,)), 'expected 3, found 1'),
        (dict(type='RandomAllocation', schedule=(1.0,)), 'at the beginning and at the end'),
        (dict(type='OracleAllocation', rate=10), r'OracleAllocation.rate must be shares'),
        (dict(type='BudgetAllocation'), 'either tokens or gflops'),
        (dict(type='BudgetAllocation', tokens=9, gflops=1.0), 'either tokens or gflops'),
        (dict(type='BudgetAllocation', gflops=1.0), 'needs costs'),
        (dict(type='BudgetAllocation', tokens=9, shape=(1.0, 0.0, 1.0)), 'must be positive'),
        (dict(type='BudgetAllocation', tokens=9, shape=(1.0, 1.0)), 'expected 3, found 2'),
        (dict(type='BudgetAllocation', gflops=9, costs=dict(token=1)), 'costs must hold tokens'),
        (
            dict(type='BudgetAllocation', gflops=9, costs=dict(tokens=(1.0, 1.0))),
            'one cost per level: expected 4, found 2',
        ),
        (dict(train=dict(type='FullAllocation')), r"found the keys \['train'\]"),
        (dict(thresholds=(0.1,) * 3), 'allocation must be dict'),
        (
            dict(
                train=dict(type='FullAllocation'),
                test=dict(type='ThresholdAllocation', thresholds=()),
            ),
            'thresholds must be one or more numbers',
        ),
    ],
)  # fmt: skip
def test_bad_policies_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(type='ARTA', allocation=config))


class Runner(SimpleNamespace):
    """As much of a runner as the hook asks for."""


def model_with(policy):
    model = nn.Module()
    model.backbone = nn.Module()
    model.backbone.policy = policy
    return model


def test_progress_hook_follows_the_iterations_of_the_runner():
    policy = build_policy(
        dict(train=dict(type='RandomAllocation'), test=dict(type='ThresholdAllocation'))
    )
    hook = HOOKS.build(dict(type='AllocationProgressHook'))
    runner = Runner(model=model_with(policy), iter=0, max_iters=101)
    hook.before_train(runner)
    found = []
    # The last ones are those of a run that was resumed: nothing but the count matters.
    for runner.iter in (0, 50, 100):
        hook.before_train_iter(runner, 0)
        found.append(policy.train.share(True))
    assert found == [1.0, 0.75, 0.5]


def test_progress_hook_without_a_schedule_is_an_error():
    hook = HOOKS.build(dict(type='AllocationProgressHook'))
    with pytest.raises(ValueError, match='remove the hook'):
        hook.before_train(Runner(model=model_with(FullAllocation())))


def test_policies_say_whether_they_look_at_scores():
    without = dict(type='RandomAllocation')
    scored = dict(type='ThresholdAllocation')
    assert not build_policy(without).uses_scores and not FullAllocation().uses_scores
    assert build_policy(scored).uses_scores and OracleAllocation(0.5).uses_scores
    assert not build_policy(dict(train=without, test=dict(type='FullAllocation'))).uses_scores
    assert build_policy(dict(train=without, test=scored)).uses_scores
    assert not ReconsideringAllocation(without).uses_scores
    assert ReconsideringAllocation(scored).uses_scores
