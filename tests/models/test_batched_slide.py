from __future__ import annotations

import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample

from mmseg_arta.models import BatchedSlideEncoderDecoder
from tests.builders import dense_segmentor, sparse_segmentor


def both(model, image, **test_cfg):
    """The prediction of the stock slide mode and ours, and how many windows ran at once."""
    size = image.shape[2:]
    metas = [dict(img_shape=size, ori_shape=size)] * len(image)
    model = model.eval()
    model.test_cfg = ConfigDict(mode='slide', **test_cfg)
    expected = EncoderDecoder.slide_inference(model, image, [dict(meta) for meta in metas])
    model.__class__, sizes = BatchedSlideEncoderDecoder, []
    model.backbone.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    return expected, model.inference(image, metas), sizes


@pytest.mark.parametrize('at_once, sizes', [(1, [2] * 6), (4, [8, 4]), (100, [12])])
@pytest.mark.parametrize('sparse', [True, False], ids=['tokens', 'maps'])
@torch.no_grad()
def test_same_as_stock(sparse, at_once, sizes):
    model = sparse_segmentor() if sparse else dense_segmentor(dict(type='grid'))
    expected, found, seen = both(
        model,
        torch.randn(2, 3, 70, 90),
        crop_size=(46, 40),
        stride=(30, 30),
        windows_per_forward=at_once,
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert seen == sizes


@torch.no_grad()
def test_image_smaller_than_a_window():
    expected, found, seen = both(
        sparse_segmentor(), torch.randn(1, 3, 40, 90), crop_size=(64, 64), stride=(48, 48)
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert seen == [1, 1]


@torch.no_grad()
def test_predictions_are_added_up_where_the_config_says():
    image = torch.randn(1, 3, 70, 90)
    expected, found, _ = both(
        sparse_segmentor(), image, crop_size=(46, 40), stride=(30, 30), accumulate_on='cpu'
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    # No other device may be there; on the meta device only shapes are.
    windows = dict(crop_size=(46, 40), stride=(30, 30))
    _, found, _ = both(sparse_segmentor(), image, **windows, accumulate_on='meta')
    assert found.device.type == 'meta' and found.shape == expected.shape
    with pytest.raises(ValueError, match=r"accumulate_on must name a device.*found 'disk'"):
        both(sparse_segmentor(), image, **windows, accumulate_on='disk')


def test_bad_option_is_named():
    with pytest.raises(ValueError, match='windows_per_forward must be at least 1, found 0'):
        model = sparse_segmentor()
        model.__class__ = BatchedSlideEncoderDecoder
        model.test_cfg = ConfigDict(
            mode='slide', crop_size=(8, 8), stride=(8, 8), windows_per_forward=0
        )
        model.slide_inference(torch.zeros(1, 3, 64, 64), [{}])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(stride=(0, 8)), r'test_cfg\.stride must be 2 integers from 1 to .*found \(0, 8\)'),
        (dict(crop_size=8), r'test_cfg\.crop_size must be 2 integers from 1 to .*found 8'),
    ],
)
def test_windows_that_cannot_be_are_told_when_the_model_is_built(options, message):
    test_cfg = dict(mode='slide', crop_size=(8, 8), stride=(8, 8)) | options
    head = dict(type='FCNHead', in_channels=512, in_index=3, channels=8, num_classes=2)
    with pytest.raises(ValueError, match=message):
        BatchedSlideEncoderDecoder(dict(type='ResNet', depth=18), head, test_cfg=test_cfg)


SAME, PADDED = dict(ori_shape=(32, 48)), dict(ori_shape=(29, 41), padding_size=[4, 3, 1, 2])


@pytest.mark.parametrize(
    'metas, copies',
    [
        ([SAME, SAME], 0),
        ([PADDED, dict(PADDED, padding_size=[9, 9, 9, 9], img_padding_size=[0, 7, 0, 3])], 0),
        ([dict(SAME, flip=True, flip_direction='horizontal'), SAME], 1),
        ([dict(SAME, flip=True, flip_direction='vertical'), dict(SAME, flip=False)], 1),
        ([dict(ori_shape=(64, 100)), dict(PADDED, ori_shape=(10, 10))], 2),
        (None, 0),
    ],
    ids=['same', 'padded', 'flipped', 'upside-down', 'resized', 'no-samples'],
)
@pytest.mark.parametrize('classes', [5, 1])
def test_results_are_those_of_the_stock_segmentor(metas, copies, classes):
    model = dense_segmentor(dict(type='grid'))
    model.decode_head.threshold = 0.5
    scores = torch.randn(2, classes, 32, 48)

    def samples():
        return metas and [SegDataSample(metainfo=meta) for meta in metas]

    expected = EncoderDecoder.postprocess_result(model, scores, samples())
    model.__class__ = BatchedSlideEncoderDecoder
    found = model.postprocess_result(scores, samples())
    for one, stock in zip(found, expected, strict=True):
        assert torch.equal(one.pred_sem_seg.data, stock.pred_sem_seg.data)
        # Strides change the last bit of a sigmoid.
        torch.testing.assert_close(
            one.seg_logits.data, stock.seg_logits.data, atol=0, rtol=1e-6 if classes == 1 else 0
        )
    if classes > 1:
        whole = scores.untyped_storage().data_ptr()
        own = [one.seg_logits.data.untyped_storage().data_ptr() != whole for one in found]
        assert sum(own) == copies
