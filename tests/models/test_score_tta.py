from __future__ import annotations

import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from tests.builders import sparse_segmentor


def view(scores, **metainfo):
    sample = SegDataSample(metainfo=metainfo)
    sample.seg_logits = PixelData(data=scores)
    sample.gt_sem_seg = PixelData(data=torch.ones(1, 2, 2))
    return sample


def model():
    return MODELS.build(dict(type='ScoreTTAModel', module=sparse_segmentor()))


def test_scores_are_averaged_as_they_are():
    # With softmax the second view, whose scores differ less, would win the first pixel.
    first, second = torch.zeros(3, 2, 2), torch.zeros(3, 2, 2)
    first[0, 0, 0], second[1, 0, 0] = 9.0, 8.0
    first[:, 1, 1] = torch.tensor([0.2, 0.3, 0.1])
    (found,) = model().merge_preds([[view(first, img_path='a.png'), view(second, img_path='b')]])
    assert torch.equal(found.seg_logits.data, (first + second) / 2)
    assert found.pred_sem_seg.data.shape == (1, 2, 2)
    assert found.pred_sem_seg.data[0].tolist() == [[0, 0], [0, 1]]
    assert found.img_path == 'a.png' and found.gt_sem_seg.data.all()


@torch.no_grad()
def test_flipped_and_resized_views_of_an_image():
    tta = model().eval()
    tta.module.test_cfg = ConfigDict(mode='whole')
    image = torch.randint(0, 255, (3, 48, 40), dtype=torch.uint8)
    inputs, samples = [], []
    for size, flip in (((48, 40), False), ((64, 53), True)):
        picture = torch.nn.functional.interpolate(image[None].float(), size)[0]
        inputs.append([picture.flip(-1) if flip else picture])
        shapes = dict(img_shape=size, ori_shape=(48, 40), flip=flip, flip_direction='horizontal')
        samples.append([SegDataSample(metainfo=dict(shapes, img_path='a.png'))])
    tta.module.data_preprocessor = MODELS.build(dict(type='SegDataPreProcessor'))
    (found,) = tta.test_step(dict(inputs=inputs, data_samples=samples))
    parts = []
    for view_inputs, view_samples in zip(inputs, samples, strict=True):
        data = dict(inputs=view_inputs, data_samples=view_samples)
        parts.append(tta.module.test_step(data)[0].seg_logits.data)
    torch.testing.assert_close(found.seg_logits.data, sum(parts) / 2)
