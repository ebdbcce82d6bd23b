"""Graphed inference with a replacement for the capture: what becomes a graph, what falls back."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from mmseg.registry import MODELS

from mmseg_arta.engine import CannotCapture, GraphedInference
from mmseg_arta.models import BudgetAllocation, TokenCosts
from tests.builders import NANO, family_segmentor, samples

SIZE = (40, 64)


class Fake:
    """A capture that counts; its graphs run the function, changed by ``change``."""

    def __init__(self, change=None):
        self.captured, self.replayed, self.change = [], 0, change

    def __call__(self, function, images):
        self.captured.append(tuple(images.shape))
        first = images.clone()

        def replay(images):
            self.replayed += 1
            if self.change == 'holds its first images':
                return function(first)
            scores = function(images)
            return scores * self.change if self.change else scores

        return replay


def segmentor(**options):
    return family_segmentor('LRFormer', **options).eval()


def metas(count=1, size=SIZE):
    return [dict(ori_shape=size, img_shape=size, pad_shape=size) for _ in range(count)]


@torch.no_grad()
def test_one_graph_for_every_shape_and_the_same_scores():
    model, fake = segmentor(), Fake()
    images = [torch.randn(2, 3, *SIZE), torch.randn(2, 3, *SIZE), torch.randn(1, 3, 64, 64)]
    given = [metas(2), metas(2), metas(1, (64, 64))]
    expected = [model.inference(*pair) for pair in zip(images, given, strict=True)]
    with GraphedInference(model, capture=fake) as graphs:
        for image, meta, scores in zip(images, given, expected, strict=True):
            torch.testing.assert_close(model.inference(image, meta), scores)
        assert fake.captured == [(2, 3, *SIZE), (1, 3, 64, 64)]
        # Three predictions, and one comparison for each graph.
        assert fake.replayed == 5 and len(graphs.graphs) == 2 and not graphs.reasons
        # Whole predictions go through the same place.
        model.predict(images[2], samples((64, 64), batch=1))
        assert fake.replayed == 6
    assert 'encode_decode' not in vars(model) and not graphs.graphs
    model.inference(images[0], given[0])
    assert fake.replayed == 6


@torch.no_grad()
def test_windows_share_a_graph():
    model = segmentor(test_cfg=dict(mode='slide', crop_size=(32, 32), stride=(16, 16)))
    image, meta = torch.randn(1, 3, 48, 48), metas(1, (48, 48))
    expected = model.inference(image, [dict(meta[0])])
    fake = Fake()
    with GraphedInference(model, capture=fake):
        torch.testing.assert_close(model.inference(image, meta), expected)
    assert fake.captured == [(1, 3, 32, 32)] and fake.replayed == 1 + 4


@torch.no_grad()
def test_graphs_hold_no_weights_that_autocast_cast():
    model, kept = segmentor(), []
    model.backbone.register_forward_hook(
        lambda *args: kept.append(torch.is_autocast_cache_enabled())
    )

    def capture(function, images):
        function(images)
        raise CannotCapture('no memory')

    with torch.autocast('cpu', torch.bfloat16), GraphedInference(model, capture=capture) as graphs:
        model.inference(torch.randn(1, 3, *SIZE), metas())
        assert list(graphs.reasons.values()) == ['no memory']
        # In the capture, and in eager mode afterwards.
        assert kept == [False, True]


def of_its_settings(model):
    """A capture whose graphs keep the policies that the model had, as graphs keep launches."""

    def capture(function, images):
        backbone = model.backbone
        names = [name for name in ('policy', 'merging', 'max_tokens') if name in vars(backbone)]
        then = {name: copy.deepcopy(getattr(backbone, name)) for name in names}

        def replay(images):
            now = {name: getattr(backbone, name) for name in names}
            vars(backbone).update(then)
            try:
                return function(images)
            finally:
                vars(backbone).update(now)

        return replay

    return capture


def budget(tokens):
    return dict(type='BudgetAllocation', tokens=tokens)


BY_GFLOPS = dict(
    type='BudgetAllocation', gflops=40.0, costs=dict(tokens=(1.0, 1.0, 1.0, 1.0), fixed=1.0)
)


@pytest.mark.parametrize(
    ('name', 'options', 'change'),
    [
        ('ARTA', budget(40), lambda of: setattr(of.policy, 'tokens', 200)),
        ('ARTA', BY_GFLOPS, lambda of: setattr(of.policy, 'gflops', 200.0)),
        (
            'ARTA',
            BY_GFLOPS,
            lambda of: setattr(of.policy, 'costs', TokenCosts((0.1, 0.1, 0.1, 0.1))),
        ),
        (
            'ARTA',
            dict(train=dict(type='FullAllocation'), test=budget(40)),
            lambda of: setattr(of.policy.test, 'tokens', 200),
        ),
        ('ARTA', budget(40), lambda of: setattr(of, 'policy', BudgetAllocation(tokens=200))),
        ('ARTA', budget(200), lambda of: setattr(of, 'max_tokens', 40)),
        ('CTS', None, lambda of: setattr(of.merging, 'share', 0.9)),
    ],
    ids=['tokens', 'gflops', 'costs', 'part', 'another policy', 'max_tokens', 'merging'],
)
@torch.no_grad()
def test_another_budget_is_another_graph(name, options, change):
    torch.manual_seed(0)
    model = family_segmentor(name)
    if options is not None:
        model.backbone = MODELS.build(dict(type='ARTA', arch=NANO, allocation=options))
    model.eval()
    images, meta = torch.randn(1, 3, 64, 64), metas(1, (64, 64))
    with GraphedInference(model, capture=of_its_settings(model)) as graphs:
        before = model.inference(images, meta)
        assert torch.equal(before, model.inference(images, meta)) and len(graphs.graphs) == 1
        change(model.backbone)
        found = model.inference(images, meta)
        assert len(graphs.graphs) == 2 and not graphs.reasons
    assert torch.equal(found, model.inference(images, meta))
    assert not torch.equal(found, before)


@pytest.mark.parametrize(
    ('change', 'reason'),
    [(1.01, 'differs from eager mode by'), (torch.nan, 'differs'), ('holds its first images', '')],
)
@torch.no_grad()
def test_a_graph_that_is_wrong_is_not_used(change, reason):
    model, fake = segmentor(), Fake(change)
    images = torch.randn(1, 3, *SIZE)
    expected = model.inference(images, metas())
    with GraphedInference(model, capture=fake) as graphs:
        for _ in range(3):
            torch.testing.assert_close(model.inference(images, metas()), expected)
        assert fake.replayed == 1 and len(fake.captured) == 1 and not graphs.graphs
        (found,) = graphs.reasons.values()
        assert reason in found and 'of the largest score' in found


@torch.no_grad()
def test_falls_back_with_a_reason_that_is_told_once(monkeypatch):
    told = []
    monkeypatch.setattr(
        'mmseg_arta.engine.cuda_graph.print_log',
        lambda message, logger, level: told.append((message, level)),
    )
    model = segmentor()
    with GraphedInference(model) as graphs:
        for size in (SIZE, SIZE, (64, 64)):
            model.inference(torch.randn(1, 3, *size), metas(1, size))
    assert set(graphs.reasons.values()) == {'images are on cpu, not on a CUDA device'}
    assert len(graphs.reasons) == 2
    ((message, level),) = told
    assert 'eager mode goes on: images are on cpu' in message and level == logging.WARNING


@torch.no_grad()
def test_no_more_graphs_than_wanted():
    model, fake = segmentor(), Fake()
    with GraphedInference(model, most=1, capture=fake) as graphs:
        for size in (SIZE, (64, 64), SIZE):
            model.inference(torch.randn(1, 3, *size), metas(1, size))
    assert fake.captured == [(1, 3, *SIZE)] and fake.replayed == 3
    assert 'there are 1 graphs already' in next(iter(graphs.reasons.values()))


def test_training_and_gradients_stay_in_eager_mode():
    model, fake = segmentor(), Fake()
    images = torch.randn(2, 3, 64, 64)
    with GraphedInference(model, capture=fake):
        assert model.encode_decode(images, metas(2, (64, 64))).requires_grad
        model.train()
        with torch.no_grad():
            model.encode_decode(images, metas(2, (64, 64)))
    assert not fake.captured


def test_other_errors_of_a_capture_are_not_hidden():
    def broken(function, images):
        raise ValueError('a mistake of ours')

    with (
        torch.no_grad(),
        GraphedInference(model := segmentor(), capture=broken),
        pytest.raises(ValueError, match='of ours'),
    ):
        model.inference(torch.randn(1, 3, *SIZE), metas())
    assert issubclass(CannotCapture, RuntimeError)
    with pytest.raises(ValueError, match='Linear has no encode_decode'):
        GraphedInference(torch.nn.Linear(1, 1))
