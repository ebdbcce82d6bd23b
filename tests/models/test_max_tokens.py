"""``max_tokens``: a bound on an image's tokens that holds whatever a policy selects."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from mmengine.logging import MMLogger
from torch import Tensor

from mmseg_arta.models import ARTA, DUPS
from mmseg_arta.models.allocation import TokenBound, bound, build_policy
from mmseg_arta.structures import MixedTokens
from tests.builders import NANO, samples, sparse_segmentor

SIZE = (96, 96)
COARSE = 9
EVERYTHING = COARSE * (1 + 4 + 16 + 64)
POLICIES: dict[str, dict[str, Any]] = {
    'threshold': dict(type='ThresholdAllocation', thresholds=(-1e6,) * 3),
    'caps': dict(type='BatchRatioAllocation', thresholds=(-1e6,) * 3, caps=(0.9, 0.7, 0.6)),
    'batch': dict(type='BatchRatioAllocation', thresholds=(0.0,) * 3, inference='batch'),
    'fixed': dict(type='FixedRatioAllocation', ratios=(0.9, 0.7, 0.6)),
    'full': dict(type='FullAllocation'),
    'random': dict(type='RandomAllocation', schedule=(0.9, 0.8)),
    'budget': dict(type='BudgetAllocation', tokens=500),
    'reconsidering': dict(
        type='ReconsideringAllocation',
        policy=dict(type='FixedRatioAllocation', ratios=(0.4, 0.7, 0.9)),
    ),
    'train and test': dict(
        train=dict(type='FullAllocation'),
        test=dict(type='ThresholdAllocation', thresholds=(0.0,) * 3),
    ),
}
BOUNDS = [COARSE, COARSE + 7, 61, 200, EVERYTHING - 1]


def noise() -> Tensor:
    return torch.randn(3, *SIZE) * 3


def checkerboard() -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing='ij')
    return (((rows + columns) % 2) * 4.0 - 2).expand(3, -1, -1)


@pytest.fixture(autouse=True)
def _untold() -> Iterator[None]:
    bound._told.clear()
    yield
    bound._told.clear()


@cache
def _encoder(kind: type, scored: bool) -> Any:
    torch.manual_seed(0)
    model = kind(NANO, scored=scored, allocation=dict(type='FullAllocation'), drop_path_rate=0.0)
    model.init_weights()
    if scored:
        for allocator in model.allocators:
            # Scores of random weights are nearly equal; let them differ by what tokens hold.
            torch.nn.init.normal_(allocator.score.layers[-1].weight)
    return model


def encode(
    policy: Any,
    most: int | None,
    images: Tensor,
    training: bool = False,
    kind: type = ARTA,
    scored: bool = True,
) -> MixedTokens:
    model = _encoder(kind, scored).train(training)
    model.policy, model.max_tokens = build_policy(policy), most
    torch.manual_seed(3)
    with torch.no_grad():
        return model(images)


def totals(tokens: MixedTokens) -> list[int]:
    return [sum(counts) for counts in zip(*tokens.tokens_per_image(), strict=True)]


def assert_same(found: MixedTokens, expected: MixedTokens) -> None:
    for level, other in zip(found.levels, expected.levels, strict=True):
        assert level.lengths == other.lengths
        assert torch.equal(level.xy, other.xy) and torch.equal(level.feats, other.feats)
    for record, other in zip(found.rounds, expected.rounds, strict=True):
        assert torch.equal(record.selected, other.selected)
        assert torch.equal(record.scores, other.scores)


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('kind', [ARTA, DUPS])
@pytest.mark.parametrize('policy', POLICIES)
def test_never_exceeded_and_used_up(policy: str, kind: type, training: bool) -> None:
    images = torch.stack((noise(), checkerboard(), torch.zeros(3, *SIZE)))
    without = encode(POLICIES[policy], None, images, training, kind)
    assert_same(encode(POLICIES[policy], EVERYTHING, images, training, kind), without)
    for most in BOUNDS:
        found = encode(POLICIES[policy], most, images, training, kind)
        assert max(totals(found)) <= most
        for number, count in enumerate(totals(found)):
            # Nothing is left out that there is room for.
            if totals(without)[number] <= most and policy not in ('caps', 'batch'):
                assert count == totals(without)[number]
            elif policy == 'full' or (policy == 'threshold' and number < 2):
                assert count > most - 4


@pytest.mark.parametrize('image', [noise, checkerboard])
@pytest.mark.parametrize('policy', ['full', 'threshold', 'reconsidering'])
def test_best_scores_stay(policy: str, image: Any) -> None:
    options = POLICIES[policy]
    if policy == 'reconsidering':
        options = dict(options, policy=POLICIES['full'])
    images = image()[None]
    for most in (COARSE + 4, 30, 100, 300):
        found = encode(options, most, images)
        cut = False
        for number in range(3):
            # Late records hold coarser candidates of the same rounds; those of round 1 have none.
            record = found.rounds[number]
            kept, left = record.scores[record.selected], record.scores[~record.selected]
            cut = cut or len(left) > 0
            if len(kept) and len(left):
                assert kept.min() >= left.max()
        assert cut


def test_every_image_by_itself() -> None:
    flat, busy = torch.zeros(3, *SIZE), noise()
    policy = dict(type='ThresholdAllocation', thresholds=(0.0,) * 3)
    few, many = (totals(encode(policy, None, image[None]))[0] for image in (flat, busy))
    if few > many:
        few, many, flat, busy = many, few, busy, flat
    assert few < many
    most = (few + many) // 2
    found = encode(policy, most, torch.stack((flat, busy)))
    assert totals(found)[0] == few and most - 4 < totals(found)[1] <= most
    single = encode(policy, most, busy[None])
    for level, of_one in zip(found.levels, single.levels, strict=True):
        torch.testing.assert_close(level.feats[level.lengths[0] :], of_one.feats)


def test_without_scores_the_ones_that_stay_are_spread() -> None:
    found = encode(POLICIES['full'], COARSE + 4 * 3, noise()[None], scored=False)
    assert found.rounds[0].selected.nonzero().flatten().tolist() == [2, 5, 8]
    for count in range(10):
        most = TokenBound(9 + 4 * count, torch.tensor([9, 9 + 4 * count]))
        selected = torch.tensor([True, False, True, True, True, False, True, True] * 2)
        batch = torch.arange(2).repeat_interleave(8)
        kept = most.keep(selected, None, batch, torch.tensor([0, 8, 16], dtype=torch.int32))
        assert not (kept & ~selected).any()
        assert [int(kept[:8].sum()), int(kept[8:].sum())] == [min(count, 6), 0]


def test_equal_scores_stay_from_the_first_on() -> None:
    selected = torch.tensor([False, True, True, True])
    limit = TokenBound(12, torch.tensor([4]))
    batch, offsets = torch.zeros(4, dtype=torch.int64), torch.tensor([0, 4], dtype=torch.int32)
    kept = limit.keep(selected, torch.zeros(4), batch, offsets)
    assert kept.tolist() == [False, True, True, False]


@pytest.mark.parametrize('policy', ['full', 'reconsidering'])
def test_gradients_flow(policy: str) -> None:
    torch.manual_seed(0)
    model = sparse_segmentor()
    model.backbone.policy = build_policy(POLICIES[policy])
    model.backbone.max_tokens = 100
    images = torch.stack((noise(), checkerboard()))
    losses = model.loss(images, samples(SIZE))
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    for allocator in model.backbone.allocators[:2]:
        assert allocator.score.layers[0].weight.grad.abs().sum() > 0


def test_told_once(caplog: pytest.LogCaptureFixture) -> None:
    # Others say what they build.
    caplog.handler.setLevel(logging.WARNING)
    logger = MMLogger.get_instance('bounded')
    logger.addHandler(caplog.handler)
    image = noise()[None]
    encode(POLICIES['full'], EVERYTHING, image)
    assert not caplog.records
    for _ in range(2):
        encode(POLICIES['full'], 100, image)
    logger.removeHandler(caplog.handler)
    (record,) = caplog.records
    # 9 coarse tokens and 36 finer ones, all of which are to get 4 children: 13 do.
    text = record.getMessage()
    assert 'max_tokens is 100' in text and 'would have got 189 tokens' in text


@pytest.mark.parametrize('value', [0, -5, 2.5, 100.0, True, '100', float('nan'), (100,)])
def test_values_that_cannot_be(value: Any) -> None:
    with pytest.raises(ValueError, match=r'ARTA\.max_tokens must be .*or None'):
        ARTA(NANO, max_tokens=value)


def test_fewer_than_the_coarse_tokens() -> None:
    model = DUPS(NANO, max_tokens=COARSE - 1)
    with pytest.raises(ValueError, match=r'DUPS\.max_tokens must be at least 9.*\(96, 96\).*8'):
        model(torch.zeros(1, 3, *SIZE))
    assert totals(DUPS(NANO, max_tokens=6)(torch.randn(1, 3, 64, 96)))[0] == 6


def test_one_host_read_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    real = torch.Tensor.tolist

    def count(self: Tensor) -> Any:
        reads.append(tuple(self.shape))
        return real(self)

    monkeypatch.setattr(torch.Tensor, 'tolist', count)
    for name in ('item', '__int__', '__float__', '__bool__'):

        def refuse(self: Tensor, *args: Any, name: str = name) -> Any:
            raise AssertionError(f'{name} reads from the device')

        monkeypatch.setattr(torch.Tensor, name, refuse)
    images = torch.stack((noise(), checkerboard()))
    encode(POLICIES['full'], 100, images)
    # Numbers chosen, and those that would have been, of both images.
    assert reads == [(4,), (4,), (4,)]
    reads.clear()
    encode(POLICIES['reconsidering'], 100, images)
    assert reads == [(4,), (6,), (8,)]
