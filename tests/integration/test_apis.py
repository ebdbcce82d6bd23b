"""Inference through mmseg's own interfaces on a bundled config."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.apis import MMSegInferencer, inference_model, init_model

ROOT = Path(__file__).resolve().parents[2]
NANO = ROOT / 'configs/arta/arta-nano_segformer_1xb4-2k_camvid-256x256.py'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Random weights with the data set's names, as a training run leaves them."""
    model = init_model(Config.fromfile(NANO), device='cpu')
    path = tmp_path_factory.mktemp('nano') / 'nano.pth'
    from mmseg_arta.datasets import CamVidDataset

    meta = {key: CamVidDataset.METAINFO[key] for key in ('classes', 'palette')}
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=meta)), path)
    return path


@pytest.fixture(scope='module')
def picture():
    return np.random.default_rng(0).integers(0, 255, (90, 130, 3)).astype(np.uint8)


def test_init_and_inference_model(checkpoint, picture):
    model = init_model(str(NANO), str(checkpoint), device='cpu')
    assert len(model.dataset_meta['classes']) == 11
    result = inference_model(model, picture)
    assert tuple(result.pred_sem_seg.data.shape) == (1, 90, 130)


def test_inferencer(checkpoint, picture, tmp_path):
    inferencer = MMSegInferencer(str(NANO), str(checkpoint), device='cpu')
    found = inferencer(picture, out_dir=str(tmp_path))
    assert found['predictions'].shape == (90, 130)
    assert list(tmp_path.rglob('*.png'))


@pytest.mark.parametrize('size', [(64, 96), (50, 70)], ids=str)
def test_a_window_of_the_whole_image_equals_whole_inference(checkpoint, size):
    model = init_model(str(NANO), str(checkpoint), device='cpu')
    image = torch.randn(1, 3, *size)
    metas = [dict(img_shape=size, ori_shape=size, pad_shape=size)]
    whole = model.inference(image, metas)
    model.test_cfg = Config(dict(mode='slide', crop_size=size, stride=size))
    torch.testing.assert_close(model.inference(image, metas), whole)
