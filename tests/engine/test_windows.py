"""Hooks see the windows of slide inference, however many of them a forward pass takes."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.structures import PixelData

from mmseg_arta.engine import TokenPictureHook, TokenStatisticsHook
from mmseg_arta.engine.token_slices import split_images
from mmseg_arta.engine.token_view import chosen_patches, view_of
from mmseg_arta.engine.windows import windows_of
from mmseg_arta.models.token_reduction import ReducedTokens
from tests.builders import family_segmentor, samples

SIZE = (64, 80)
#: Six windows, the last ones moved back into the image.
SLIDE = dict(mode='slide', crop_size=(48, 40), stride=(32, 24))
PALETTE = [[80 * n % 256, 50 * n, 255 - 50 * n] for n in range(5)]


class Log(list):
    """A logger that keeps what it is told."""

    def warning(self, message: str) -> None:
        self.append(message)

    info = warning


def runner_for(model, folder=Path()):
    return SimpleNamespace(
        model=model,
        logger=Log(),
        work_dir=str(folder),
        message_hub=SimpleNamespace(get_info=lambda name, default: 0),
        visualizer=SimpleNamespace(dataset_meta=dict(classes=tuple('abcde'), palette=PALETTE)),
    )


def slide_segmentor(at_once):
    torch.manual_seed(0)
    test_cfg = dict(SLIDE, windows_per_forward=at_once)
    model = family_segmentor('ARTA', type='BatchedSlideEncoderDecoder', test_cfg=test_cfg)
    return model.eval()


def watched(hook, model, folder=Path()):
    """A hook's run over a batch of two images in windows, and how many passes it took."""
    runner = runner_for(model, folder)
    hook.before_run(runner)
    passes = []
    handle = model.backbone.register_forward_hook(lambda *args: passes.append(1))
    generator = torch.Generator().manual_seed(1)
    found = samples(SIZE)
    for number, sample in enumerate(found):
        labels = torch.randint(0, 5, (1, *SIZE), generator=generator)
        sample.gt_sem_seg = sample.pred_sem_seg = PixelData(data=labels)
        sample.set_metainfo(dict(img_path=str(folder / f'{number}.png')))
    with torch.no_grad():
        images = torch.randn((2, 3, *SIZE), generator=generator)
        model.inference(images, [dict(sample.metainfo) for sample in found])
    hook.after_test_iter(runner, 0, outputs=found)
    handle.remove()
    assert not runner.logger or all('drawn' in line for line in runner.logger)
    return runner, len(passes)


def test_statistics_do_not_depend_on_windows_per_pass():
    logged = []
    for at_once, wanted in ((1, 6), (2, 3), (4, 2), (6, 1)):
        hub = MessageHub.get_instance(f'{at_once} windows per pass')
        hook = TokenStatisticsHook()
        runner, passes = watched(hook, slide_segmentor(at_once))
        hook.after_test_epoch(runner)
        assert passes == wanted
        logged.append({name: one.current() for name, one in hub.log_scalars.items()})
    first = logged[0]
    assert {'test/tokens_round3', 'test/score_round3', 'test/boundary_covered'} <= set(first)
    assert 0 < first['test/boundary_covered'] <= 100
    for others in logged[1:]:
        assert others == pytest.approx(first, rel=1e-5)


def test_pictures_do_not_depend_on_windows_per_pass(tmp_path):
    drawn = []
    for at_once in (1, 4, 6):
        folder = tmp_path / str(at_once)
        folder.mkdir()
        for number in range(2):
            cv2.imwrite(str(folder / f'{number}.png'), np.full((*SIZE, 3), 128, np.uint8))
        watched(TokenPictureHook(interval=1), slide_segmentor(at_once), folder)
        written = sorted(folder.glob('token_pictures/test/*.png'))
        assert [path.name for path in written] == ['0.png', '1.png']
        drawn.append([cv2.imread(str(path)).astype(int) for path in written])
    assert (drawn[0][0] != drawn[0][1]).any()
    for others in drawn[1:]:
        for picture, other in zip(drawn[0], others, strict=True):
            # Colours of scores may be rounded to the next.
            assert picture.shape == other.shape and abs(picture - other).max() <= 2


def same(found, expected):
    """Asserts that two dataclasses of arrays hold the same."""
    for field in fields(expected):
        one, other = (getattr(each, field.name) for each in (found, expected))
        np.testing.assert_array_equal(one, other, err_msg=field.name)


@pytest.mark.parametrize('name', ['ARTA', 'reconsidering', 'AFF', 'SegViT', 'CTS', 'DToP', 'STEP'])
@torch.no_grad()
def test_images_are_split_as_they_lie_in_the_batch(name):
    torch.manual_seed(0)
    model = family_segmentor(name).eval()
    tokens = model.backbone(torch.randn(4, 3, 64, 64))
    parts = split_images(tokens, 2)
    assert len(parts) == 2
    for number in range(4):
        part, index = parts[number // 2], number % 2
        found, expected = view_of(part, index), view_of(tokens, number)
        for kind in ('rounds', 'scores'):
            for pair in zip(getattr(found, kind), getattr(expected, kind), strict=True):
                same(*pair)
        if expected.cells is not None:
            same(found.cells, expected.cells)
        for pair in zip(chosen_patches(part, index), chosen_patches(tokens, number), strict=True):
            same(*pair)
    if isinstance(tokens, ReducedTokens):
        for stage, *pieces in zip(tokens.stages, *(part.stages for part in parts), strict=True):
            assert torch.equal(stage.feats, torch.cat([piece.feats for piece in pieces]))
            if stage.rows is not None:
                rows = (pieces[0].rows, pieces[1].rows + len(parts[0].layout))
                assert torch.equal(stage.rows, torch.cat(rows))
        for halt, *pieces in zip(tokens.halts, *(part.halts for part in parts), strict=True):
            logits = torch.cat([piece.mask_logits for piece in pieces])
            assert torch.equal(halt.mask_logits, logits)
            assert halt.kept == pieces[0].kept + pieces[1].kept
    else:
        for level, *pieces in zip(tokens.levels, *(part.levels for part in parts), strict=True):
            assert torch.equal(level.feats, torch.cat([piece.feats for piece in pieces]))
            assert level.lengths == pieces[0].lengths + pieces[1].lengths


@torch.no_grad()
def test_the_log_says_once_why_windows_are_not_known():
    model = slide_segmentor(1)
    runner, hook = runner_for(model), TokenStatisticsHook()
    hook.before_run(runner)
    for _ in range(2):
        for _ in range(2):
            model.backbone(torch.randn(2, 3, *SIZE))
        hook.after_test_iter(runner, 0, outputs=samples(SIZE))
    (line,) = runner.logger
    assert line == (
        'TokenStatisticsHook leaves out images: the backbone ran 2 times for 2 images of (64, 80) '
        '(height, width), which have 6 windows of (48, 40), and saw 2 of (64, 80), as with '
        'test-time augmentation'
    )
    hook.after_test_epoch(runner)
    assert len(runner.logger) == 1


@torch.no_grad()
def test_reasons():
    passes = [family_segmentor('ARTA').eval().backbone(torch.randn(3, 3, 64, 64))]
    found = samples((64, 64))
    for given, cfg, reason in (
        ([], SLIDE, 'no forward pass of the backbone was seen'),
        (passes, dict(mode='whole'), 'without slide inference'),
        (passes, SLIDE, 'which are no windows of all images'),
    ):
        told = []
        assert windows_of(given, found, cfg, told.append) is None
        assert len(told) == 1 and reason in told[0]
    assert len(windows_of(passes, samples((64, 64), batch=3), dict(mode='whole'))) == 1
