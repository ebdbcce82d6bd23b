from __future__ import annotations

import weakref
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

from mmseg_arta.engine import TokenPictureHook, TokenStatisticsHook
from mmseg_arta.engine.coverage import covered_share, random_tokens_like, token_cover
from mmseg_arta.engine.drawing import natural_width
from mmseg_arta.engine.hooks.token_statistics import check_allocator_supervision, round_statistics
from mmseg_arta.engine.token_panels import ImageResult, error_panel
from mmseg_arta.engine.windows import slide_corners

NANO = dict(
    dims=(32, 32, 16, 16),
    num_heads=(1, 1, 1, 1),
    allocation_depths=(1, 1, 1),
    refinement_depths=(1, 1, 1, 1),
)


def segmentor(**backbone):
    return MODELS.build(
        dict(
            type='EncoderDecoder',
            backbone=dict(type='ARTA', arch=NANO, **backbone),
            neck=dict(type='TokensToMaps', in_channels=(32, 32, 16, 16), out_indices=(0,)),
            decode_head=dict(
                type='FCNHead',
                in_channels=16,
                in_index=0,
                channels=8,
                num_convs=1,
                num_classes=3,
                norm_cfg=dict(type='BN'),
            ),
            train_cfg=dict(),
            test_cfg=dict(mode='whole'),
        )
    )


def runner_for(model, tmp_path):
    return SimpleNamespace(
        model=model,
        iter=9,
        message_hub=SimpleNamespace(get_info=lambda name, default: 9),
        work_dir=str(tmp_path),
        logger=MMLogger.get_instance('hook-test', logger_name='hook-test'),
        visualizer=SimpleNamespace(
            dataset_meta=dict(
                classes=('road', 'tree', 'sky'), palette=[[255, 0, 0], [0, 255, 0], [0, 0, 255]]
            )
        ),
    )


def sample(path='', size=(64, 96)):
    truth = torch.zeros(1, *size, dtype=torch.long)
    truth[:, size[0] // 2 :] = 1
    found = SegDataSample(gt_sem_seg=PixelData(data=truth), pred_sem_seg=PixelData(data=truth))
    found.set_metainfo(dict(img_path=path, img_shape=(64, 96), ori_shape=size))
    return found


@pytest.fixture
def hub():
    return MessageHub.get_instance('token-hooks')


def test_training_logs_tokens_and_scores(tmp_path, hub):
    model = segmentor(allocation=dict(type='ThresholdAllocation', thresholds=(-1e9,) * 3))
    runner = runner_for(model, tmp_path)
    hook = TokenStatisticsHook(interval=10)
    hook.before_run(runner)
    model.backbone(torch.randn(2, 3, 64, 96))
    hook.after_train_iter(runner, 9)
    read = MessageHub.get_current_instance().get_scalar
    assert read('train/tokens_round1').current() == 24.0
    assert read('train/tokens_round3').current() == 384.0
    scores = round_statistics(model.backbone(torch.randn(2, 3, 64, 96)))
    assert set(scores) == {f'{kind}_round{r}' for kind in ('tokens', 'score') for r in (1, 2, 3)}
    hook.after_run(runner)
    model.backbone(torch.randn(1, 3, 32, 32))
    assert len(hook.take()) == 1  # nothing recorded after the run


def test_rounds_that_reconsider_coarser_tokens_say_which():
    """Four tokens of 32 px a side: late records are named by their round and patch size."""
    policy = dict(type='FixedRatioAllocation', ratios=(0.5, 0.5, 0.5))
    allocation = dict(type='ReconsideringAllocation', policy=policy)
    model = segmentor(allocation=allocation)
    tokens = model.backbone(torch.randn(2, 3, 128, 128))
    values = round_statistics(tokens)
    names = ['round1', 'round2', 'round3', 'round2_patch32', 'round3_patch32', 'round3_patch16']
    assert [name for name in values if name.startswith('tokens_')] == [f'tokens_{n}' for n in names]
    new = sum(sum(level.lengths) for level in tokens.levels[1:]) / 2
    assert sum(values[f'tokens_{name}'] for name in names) == new
    # Half of 16 of 32 px, then half of what is left of 32 px and 4 * 8 of 16 px together.
    assert values['tokens_round1'] == 32
    assert values['tokens_round2'] + values['tokens_round2_patch32'] == 4 * 20


@pytest.mark.parametrize('training', [True, False])
def test_features_are_let_go(tmp_path, training):
    model = segmentor().train(training)
    hook = TokenStatisticsHook()
    hook.before_run(runner_for(model, tmp_path))
    for _ in range(3):
        tokens = model.backbone(torch.randn(2, 3, 64, 96))
        of_features = [weakref.ref(level.feats) for level in tokens.levels]
        expected = round_statistics(tokens), tokens.tokens_per_image()
        del tokens
        # Nor does the graph of a training step keep them.
        assert not any(feats() is not None for feats in of_features)
    recorded = hook.take()
    assert len(recorded) == 3
    assert (round_statistics(recorded[-1]), recorded[-1].tokens_per_image()) == expected
    assert not any(one.scores.requires_grad for tokens in recorded for one in tokens.rounds)


def test_coverage_of_all_and_of_no_tokens(tmp_path, hub):
    for threshold, expected in ((-1e9, 100.0), (1e9, 0.0)):
        model = segmentor(allocation=dict(type='ThresholdAllocation', thresholds=(threshold,) * 3))
        runner = runner_for(model, tmp_path)
        hook = TokenStatisticsHook()
        hook.before_run(runner)
        model.backbone(torch.randn(1, 3, 64, 96))
        hook.after_val_iter(runner, 0, outputs=[sample(size=(128, 192))])
        hook.after_val_epoch(runner)
        read = MessageHub.get_current_instance().get_scalar
        assert read('val/boundary_covered').current() == expected
        assert read('val/boundary_covered_random').current() == expected


@pytest.mark.parametrize(
    'size, crop, stride',
    [((64, 96), (64, 64), (32, 32)), ((50, 96), (64, 40), (64, 33)), ((40, 40), (64, 64), (9, 9))],
    ids=str,
)
def test_windows_are_those_of_slide_inference(size, crop, stride):
    model = segmentor()
    seen = []
    model.test_cfg = Config(dict(mode='slide', crop_size=crop, stride=stride))
    model.encode_decode = lambda part, metas: (
        seen.append(part[0, 0]) or torch.zeros(1, 3, *part.shape[2:])
    )
    image = torch.arange(size[0] * size[1] * 1.0).view(1, 1, *size)
    model.slide_inference(image, [dict(img_shape=size)])
    corners = slide_corners(size, crop, stride)
    assert [int(part[0, 0]) for part in seen] == [y * size[1] + x for y, x in corners]


def test_coverage_of_windows(tmp_path, hub):
    for thresholds, expected in ((-1e9, 100.0), (1e9, 0.0)):
        allocation = dict(type='ThresholdAllocation', thresholds=(thresholds,) * 3)
        model = segmentor(allocation=allocation)
        model.test_cfg = dict(mode='slide', crop_size=(64, 64), stride=(32, 32))
        runner = runner_for(model, tmp_path)
        hook = TokenStatisticsHook()
        hook.before_run(runner)
        for _ in range(2):
            model.backbone(torch.randn(1, 3, 64, 64))
        hook.after_test_iter(runner, 0, outputs=[sample()])
        hook.after_test_epoch(runner)
        read = MessageHub.get_current_instance().get_scalar
        assert read('test/boundary_covered').current() == expected


def test_passes_of_test_time_augmentation_are_left_out(tmp_path, hub):
    model = segmentor()
    runner = runner_for(model, tmp_path)
    hook = TokenStatisticsHook()
    hook.before_run(runner)
    for _ in range(2):
        model.backbone(torch.randn(1, 3, 64, 96))
    hook.after_test_iter(runner, 0, outputs=[sample()])
    assert not hook._sums


def test_random_tokens_are_as_many_and_inside_the_image():
    model = segmentor(allocation=dict(type='ThresholdAllocation', thresholds=(0.0,) * 3))
    tokens = model.backbone(torch.randn(2, 3, 50, 70))
    cover = random_tokens_like(tokens, torch.Generator().manual_seed(0))
    for image, count in enumerate(tokens.levels[-1].lengths):
        assert int(cover[image].sum()) == count * 16 or count // 4 > 7 * 9
        assert not cover[image, 56:].any() and not cover[image, :, 72:].any()
    own = token_cover(tokens.levels[-1], tokens.canvas)
    assert [int(c.sum()) for c in own] == [16 * n for n in tokens.levels[-1].lengths]
    assert covered_share(own, own) == 1.0


def test_pictures_are_written(tmp_path):
    image_path = tmp_path / 'street.png'
    cv2.imwrite(str(image_path), np.full((64, 96, 3), 128, np.uint8))
    model = segmentor()
    runner = runner_for(model, tmp_path)
    hook = TokenPictureHook(interval=2, max_images=5)
    hook.before_run(runner)
    hook.before_val_epoch(runner)
    for _ in range(3):
        model.backbone(torch.randn(1, 3, 64, 96))
        hook.after_val_iter(runner, 0, outputs=[sample(str(image_path))])
    written = list(tmp_path.glob('token_pictures/val/iter_9/*.png'))
    assert [path.name for path in written] == ['street.png']
    # Image, ground truth, prediction and errors; scores and boundary; rounds and all tokens.
    height, width, _ = cv2.imread(str(written[0])).shape
    scale = natural_width(96) // 96
    assert 4 * 96 * scale < width < 4 * 96 * scale * 1.1
    assert 3 * 64 * scale < height < 3 * 64 * scale * 1.4


def test_what_is_no_picture_is_left_out(tmp_path):
    """Arrays and depth maps, which pipelines may load, end no run."""
    np.save(tmp_path / 'depth.npy', np.zeros((64, 96), np.float32))
    cv2.imwrite(str(tmp_path / 'street.png'), np.full((64, 96, 3), 128, np.uint8))
    model = segmentor()
    runner = runner_for(model, tmp_path)
    hook = TokenPictureHook(interval=1)
    hook.before_run(runner)
    hook.before_val_epoch(runner)
    told = []
    runner.logger = SimpleNamespace(warning=told.append, info=lambda text: None)
    for name in ('depth.npy', 'none.png', 'street.png'):
        model.backbone(torch.randn(1, 3, 64, 96))
        hook.after_val_iter(runner, 0, outputs=[sample(str(tmp_path / name))])
    assert [path.name for path in tmp_path.rglob('token_pictures/*/*/*')] == ['street.png']
    assert len(told) == 1 and 'depth.npy' in told[0] and 'cannot be read as a picture' in told[0]


def test_errors_are_those_of_labelled_pixels(tmp_path):
    cv2.imwrite(str(tmp_path / 'street.png'), np.full((64, 96, 3), 128, np.uint8))
    found = sample(str(tmp_path / 'street.png'))
    truth = found.gt_sem_seg.data.clone()
    truth[:, :10] = 99
    found.gt_sem_seg = PixelData(data=truth)
    panels = [
        error_panel(ImageResult.of(found, 'street', ignored), found.pred_sem_seg.data[0].numpy())
        for ignored in (99, 255)
    ]
    assert [panel.title for panel in panels] == [
        'errors: 0.0 % of pixels',
        f'errors: {100 * 10 / 64:.1f} % of pixels',
    ]


def test_only_the_main_process_draws(tmp_path, monkeypatch):
    # Other ranks have no visualizer that knows the data set.
    monkeypatch.setattr('mmengine.dist.is_main_process', lambda: False)
    model = segmentor()
    runner = runner_for(model, tmp_path)
    runner.visualizer.dataset_meta = None
    hook = TokenPictureHook(interval=1)
    hook.before_run(runner)
    model.backbone(torch.randn(1, 3, 64, 96))
    hook.after_val_iter(runner, 0, outputs=[sample('nowhere.png')])
    assert not hook.take() and not list(tmp_path.rglob('*.png'))


def test_other_backbones_are_refused(tmp_path):
    model = nn.Module()
    model.backbone = nn.Identity()
    hook = TokenStatisticsHook()
    hook.before_run(runner_for(model, tmp_path))
    with pytest.raises(TypeError, match='remove the hook from custom_hooks'):
        model.backbone(torch.zeros(1))


def test_an_allocator_that_could_not_learn_is_refused(tmp_path):
    check_allocator_supervision(segmentor())
    model = segmentor(straight_through=False)
    with pytest.raises(ValueError, match='the allocator would never learn'):
        TokenStatisticsHook().before_train(runner_for(model, tmp_path))
    model.auxiliary_head = MODELS.build(dict(type='BoundaryScoreHead'))
    check_allocator_supervision(model)
