"""Mask2Former at its limits: few labels, few tokens, odd sizes, half precision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from mmengine.config import ConfigDict

from mmseg_arta.models import ScoreTTAModel, SparseMask2FormerHead
from mmseg_arta.models.losses import set_criterion
from mmseg_arta.structures import MixedTokens
from tests.builders import dense_segmentor, samples, sparse_segmentor
from tests.helpers import some_tokens

IGNORED = 255
SIZE = (64, 64)
BUILD = {
    'tokens': sparse_segmentor,
    'maps': lambda **more: dense_segmentor(dict(type='grid'), **more),
}


@pytest.fixture(params=['tokens', 'maps'])
def model(request):
    model = BUILD[request.param]()
    model.init_weights()
    return model.train()


def step(model, image, data):
    """Losses of the decoder after a training step, in which everything learned."""
    losses = model.loss(image, data)
    total, _ = model.parse_losses(losses)
    total.backward()
    assert total.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    return {
        key: float(value.detach()) for key, value in losses.items() if key.startswith('decode.')
    }


def few_tokens(lengths, dim=16, requires_grad=False):
    """Tokens of a 64x64 canvas with the given counts per level and image, coarse to fine."""
    levels = []
    for size, counts in zip((32, 16, 8, 4), lengths, strict=True):
        level = some_tokens(counts, (64 // size, 64 // size), size, dim)
        levels.append(level.with_feats(level.feats.requires_grad_(requires_grad)))
    return MixedTokens(tuple(levels), SIZE, SIZE)


def small_head(**options):
    config = dict(
        num_classes=5,
        dim=32,
        num_queries=8,
        pixel_decoder=dict(num_layers=2, num_heads=2, hidden=32),
        transformer_decoder=dict(num_layers=3, num_heads=2, hidden=32),
    )
    return SparseMask2FormerHead((16,) * 4, **(config | options))


def test_an_image_without_labels_adds_no_masks(model):
    data = samples(SIZE)
    image = torch.randn(2, 3, *SIZE)
    data[1].gt_sem_seg.data[:] = IGNORED
    losses = step(model, image, data)
    assert all(value > 0 for value in losses.values())
    # The labelled image alone has the same mask losses: the other one's predictions are free.
    model.eval()
    alone = model.loss(image[:1], data[:1])
    both = model.loss(image, data)
    for name in ('decode.loss_mask', 'decode.loss_dice', 'decode.d0.loss_mask'):
        torch.testing.assert_close(alone[name], both[name], rtol=1e-3, atol=1e-4)


def test_a_batch_without_labels_learns_that_there_is_no_object(model):
    data = samples(SIZE)
    for sample in data:
        sample.gt_sem_seg.data[:] = IGNORED
    losses = step(model, torch.randn(2, 3, *SIZE), data)
    for name, value in losses.items():
        assert (value > 0) is name.endswith('cls'), name


def test_images_of_one_class(model):
    data = samples(SIZE)
    for sample in data:
        sample.gt_sem_seg.data[:] = 3
    assert all(value > 0 for value in step(model, torch.randn(2, 3, *SIZE), data).values())


@torch.no_grad()
def test_a_data_set_of_one_class():
    model = sparse_segmentor(num_classes=1)
    losses = model.loss(torch.randn(1, 3, *SIZE), samples(SIZE, classes=1, batch=1))
    assert all(value.isfinite() for value in losses.values())
    head = model.eval().decode_head
    scores = torch.zeros(1, 1, *SIZE)
    scores[..., :32] = 0.9
    scores[..., 32:40] = 0.4
    found = model.postprocess_result(scores, samples(SIZE, classes=1, batch=1))[0]
    wanted = torch.zeros(SIZE)
    wanted[:, :32] = 1
    assert torch.equal(found.pred_sem_seg.data[0].float(), wanted)
    assert 0.5 < head.threshold < 1
    flipped = model.postprocess_result(scores * 0.9, samples(SIZE, classes=1, batch=1))[0]
    (merged,) = ScoreTTAModel(module=model).merge_preds([[found, flipped]])
    assert torch.equal(merged.pred_sem_seg.data, found.pred_sem_seg.data)


def test_more_classes_in_an_image_than_queries_names_the_option():
    model = sparse_segmentor(num_queries=4)
    with pytest.raises(ValueError, match='shows 5 classes, but num_queries is 4'):
        model.loss(torch.randn(2, 3, *SIZE), samples(SIZE))


@pytest.mark.parametrize(
    'lengths',
    [
        pytest.param(((4, 4), (0, 8), (0, 16), (0, 40)), id='one-image-has-no-fine-tokens'),
        pytest.param(((4, 4), (8, 8), (16, 16), (0, 0)), id='no-finest-tokens'),
        pytest.param(((4, 4), (0, 0), (0, 0), (0, 0)), id='coarse-tokens-alone'),
        pytest.param(((4, 4), (16, 0), (0, 5), (40, 0)), id='holes-between-levels'),
        pytest.param(((4, 4), (16, 1), (64, 2), (256, 3)), id='very-different-counts'),
    ],
)
def test_levels_without_tokens(lengths):
    head = small_head()
    tokens = few_tokens(lengths, requires_grad=True)
    losses = head.loss(tokens, samples(SIZE))
    sum(losses.values()).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    for level in tokens.levels:
        assert level.feats.grad is not None and level.feats.grad.isfinite().all()
    head.eval()
    with torch.no_grad():
        scores = head.predict(tokens, [{}] * 2)
    assert scores.shape == (2, 5, *SIZE) and scores.isfinite().all()


@torch.no_grad()
def test_an_image_with_few_tokens_does_not_depend_on_the_others():
    head = small_head().eval()
    tokens = few_tokens(((4, 4), (3, 16), (0, 64), (0, 256)))
    together = head.predict(tokens, [{}] * 2)
    alone = MixedTokens(tuple(first_image(level) for level in tokens.levels), SIZE, SIZE)
    torch.testing.assert_close(head.predict(alone, [{}]), together[:1], rtol=1e-4, atol=1e-5)


def first_image(level):
    count = level.lengths[0]
    return replace(
        level,
        feats=level.feats[:count],
        xy=level.xy[:count],
        offsets=level.offsets[:2],
        lengths=(count,),
    )


def test_masks_are_averaged_over_ranks_and_never_fewer_than_one(monkeypatch):
    model = sparse_segmentor().eval()
    data, image = samples(SIZE), torch.randn(2, 3, *SIZE)
    counts = []

    def all_reduce(masks, op):
        assert op == 'mean'
        counts.append(float(masks))
        masks.copy_(masks / 4)  # three other ranks without labels

    with torch.no_grad():
        torch.manual_seed(0)
        alone = model.loss(image, data)
        monkeypatch.setattr(set_criterion, 'all_reduce', all_reduce)
        shared = model.loss(image, data)
        torch.testing.assert_close(shared['decode.loss_dice'], 4 * alone['decode.loss_dice'])
        assert counts == [10.0]
        for sample in data:
            sample.gt_sem_seg.data[:] = IGNORED
        data[0].gt_sem_seg.data[:, :8] = 1
        monkeypatch.undo()
        one = model.loss(image, data)
        monkeypatch.setattr(set_criterion, 'all_reduce', all_reduce)
        clamped = model.loss(image, data)
    torch.testing.assert_close(clamped['decode.loss_dice'], one['decode.loss_dice'])


@pytest.mark.parametrize('size', [(33, 97), (31, 40), (64, 130)], ids=str)
@pytest.mark.parametrize('kind', list(BUILD))
def test_odd_sizes_and_a_batch_of_one(kind, size):
    model = BUILD[kind]().train()
    model.init_weights()
    image, data = torch.randn(1, 3, *size), samples(size, batch=1)
    step(model, image, data)
    windows = dict(mode='slide', crop_size=(32, 48), stride=(20, 30))
    for test_cfg in (dict(mode='whole'), windows):
        model.eval().test_cfg = ConfigDict(test_cfg)
        with torch.no_grad():
            (found,) = model.predict(image, data)
        assert found.seg_logits.data.shape == (5, *size)
        assert found.seg_logits.data.isfinite().all()


@torch.no_grad()
def test_windows_without_fine_tokens():
    model = sparse_segmentor(dict(mode='slide', crop_size=(48, 48), stride=(32, 32))).eval()
    model.backbone.policy.thresholds = (2.0, 2.0, 2.0)  # scores are at most 1
    (found,) = model.predict(torch.randn(1, 3, 70, 90), samples((70, 90), batch=1))
    assert found.seg_logits.data.shape == (5, 70, 90) and found.seg_logits.data.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=['bf16', 'fp16'])
@pytest.mark.parametrize('kind', list(BUILD))
def test_mixed_precision_is_near_full_precision(kind, dtype):
    model = BUILD[kind]()
    model.init_weights()
    model.eval()
    image, data = torch.randn(2, 3, *SIZE), samples(SIZE)
    metas = [sample.metainfo for sample in data]
    full = model.loss(image, data), model.inference(image, metas)
    with torch.autocast('cpu', dtype):
        half = model.loss(image, data), model.inference(image, metas)
    assert half[1].dtype == torch.float32
    for name, value in half[0].items():
        assert value.dtype == torch.float32, name
        torch.testing.assert_close(value, full[0][name], rtol=0.05, atol=0.05, msg=name)
    torch.testing.assert_close(half[1], full[1], rtol=0.05, atol=0.05)
    total, _ = model.parse_losses(half[0])
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
