"""Training batches that are cut to one of several sizes."""

from __future__ import annotations

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmseg_arta.models import data_preprocessors


def build(**options):
    options = dict(type='MultiSizeCropPreProcessor', size=(12, 16), seg_pad_val=255) | options
    return MODELS.build(options)


def batch(*sizes):
    """Images that hold the number of every pixel, and the same as labels."""
    inputs, samples = [], []
    for height, width in sizes:
        pixels = torch.arange(height * width).view(1, height, width)
        inputs.append(pixels.expand(3, -1, -1).float())
        sample = SegDataSample(metainfo=dict(img_shape=(height, width)))
        sample.gt_sem_seg = PixelData(data=pixels.clone())
        sample.gt_edge_map = PixelData(data=pixels.clone())
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def test_images_and_labels_are_cut_alike():
    torch.manual_seed(0)
    cut = build(crop_sizes=[(4, 6), (12, 16), (8, 8)])
    seen, firsts = set(), set()
    for _ in range(60):
        found = cut(batch((12, 16), (12, 16)), training=True)
        size = tuple(found['inputs'].shape[2:])
        seen.add(size)
        firsts.add(float(found['inputs'][0, 0, 0, 0]))
        for image, sample in zip(found['inputs'], found['data_samples'], strict=True):
            for labels in (sample.gt_sem_seg, sample.gt_edge_map):
                assert labels.data.shape == (1, *size)
                assert torch.equal(labels.data[0], image[0].long())
            assert sample.img_shape == sample.pad_shape == size
    assert seen == {(4, 6), (12, 16), (8, 8)}
    # From everywhere: the corner at the top left has many numbers.
    assert len(firsts) > 20 and 0 in firsts


def test_smaller_batches_keep_their_size():
    cut = build(crop_sizes=[(9, 99)], size=None, size_divisor=1)
    found = cut(batch((5, 7), (6, 4)), training=True)
    assert found['inputs'].shape == (2, 3, 6, 7)
    # What the stock preprocessor has padded stays padded.
    assert (found['data_samples'][0].gt_sem_seg.data[0, 5] == 255).all()


def test_batches_are_cut_where_an_image_is():
    """The stock preprocessor pads to 12x16: nothing is taken from beyond the largest image."""
    torch.manual_seed(0)
    cut = build(crop_sizes=[(4, 4), (8, 12)])
    paddings = set()
    for _ in range(60):
        found = cut(batch((6, 5), (3, 9)), training=True)
        for (height, width), sample in zip([(6, 5), (3, 9)], found['data_samples'], strict=True):
            left, right, top, below = sample.padding_size
            rows, columns = sample.img_shape
            assert left == top == 0 and 0 <= below <= rows and 0 <= right <= columns
            shown = sample.gt_sem_seg.data[0] != 255
            assert shown[: rows - below, : columns - right].all()
            assert int(shown.sum()) == (rows - below) * (columns - right)
            assert below < rows or height == 3
            assert right < columns or width == 5
            paddings.add(sample.padding_size)
    assert len(paddings) > 4


def test_weights_say_how_often():
    torch.manual_seed(0)
    cut = build(crop_sizes=[(4, 4), (8, 8)], weights=[9, 1])
    sides = [cut(batch((12, 16)), training=True)['inputs'].shape[2] for _ in range(200)]
    assert 5 <= sides.count(8) <= 40


def test_all_processes_draw_the_same_size(monkeypatch):
    monkeypatch.setattr(data_preprocessors, 'get_world_size', lambda: 2)
    # What the first process has drawn comes over the wire.
    monkeypatch.setattr(data_preprocessors, 'broadcast', lambda number: number.fill_(1))
    cut = build(crop_sizes=[(4, 4), (8, 8)], weights=[1, 1e-9])
    assert cut(batch((12, 16)), training=True)['inputs'].shape[2:] == (8, 8)


def test_images_of_tests_stay_whole():
    found = build(crop_sizes=[(4, 4)])(batch((12, 16)))
    assert found['inputs'].shape == (1, 3, 12, 16)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(crop_sizes=[]), 'crop_sizes must be a list of heights and widths, found'),
        (dict(crop_sizes=(4, 4)), r'crop_sizes\[0\] must be 2 integers from 1 to'),
        (dict(crop_sizes=[(4, 0)]), r'crop_sizes\[0\] must be 2 integers from 1 to'),
        (dict(crop_sizes=[(4, 4)], weights=[0]), 'weights must be 1 finite number'),
        (dict(crop_sizes=[(4, 4)], weights=[1, 1]), 'weights must be 1 finite number'),
    ],
)
def test_what_cannot_be_is_an_error(options, message):
    with pytest.raises(ValueError, match=f'MultiSizeCropPreProcessor.{message}'):
        build(**options)
