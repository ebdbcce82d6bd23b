"""Every data set base config runs on a toy data set, through the stock classes and transforms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import Compose
from mmseg.registry import DATASETS

from mmseg_arta.datasets.toy import LAYOUTS

BASES = Path(__file__).parents[2] / 'configs' / '_base_' / 'datasets'
CONFIGS = {
    'ade20k': 'ade20k_512x512.py',
    'coco_stuff164k': 'coco-stuff164k_512x512.py',
    'coco_stuff10k': 'coco-stuff10k_512x512.py',
    'cityscapes': 'cityscapes_1024x1024.py',
    'camvid': 'camvid_256x256.py',
}


def build(layout: str, roots: dict[str, Path], split: str):
    config = Config.fromfile(BASES / CONFIGS[layout])
    dataset = config[f'{split}_dataloader']['dataset']
    dataset['data_root'] = str(roots[layout])
    return config, DATASETS.build(dataset)


def dataset_type(path: Path) -> str:
    return Config.fromfile(path).train_dataloader.dataset.type


def test_every_layout_has_a_config() -> None:
    assert CONFIGS.keys() == LAYOUTS.keys()
    known = {dataset_type(BASES / name) for name in CONFIGS.values()}
    # Other recipes on the same data sets stand beside these.
    assert {dataset_type(path) for path in BASES.rglob('*.py')} == known


@pytest.mark.parametrize('layout', LAYOUTS)
def test_training_pipeline(layout: str, toy_roots: dict[str, Path]) -> None:
    config, dataset = build(layout, toy_roots, 'train')
    assert len(dataset) == 6
    assert len(dataset.metainfo['classes']) == LAYOUTS[layout].num_classes
    np.random.seed(0)
    sample = dataset[0]
    image, label = sample['inputs'], sample['data_samples'].gt_sem_seg.data
    assert image.shape[0] == 3 and image.shape[1:] == label.shape[1:]
    # never larger than the crop; the data preprocessor pads smaller ones
    assert all(side <= limit for side, limit in zip(image.shape[1:], config.crop_size, strict=True))
    values = set(np.unique(label.numpy()).tolist())
    assert values <= {*range(LAYOUTS[layout].num_classes), 255} and len(values) > 2


@pytest.mark.parametrize('layout', LAYOUTS)
def test_validation_pipeline(layout: str, toy_roots: dict[str, Path]) -> None:
    config, dataset = build(layout, toy_roots, 'val')
    assert len(dataset) == 2
    short_side = config.test_pipeline[1]['scale'][1]
    cast = LAYOUTS[layout].cast
    for sample in dataset:
        samples = sample['data_samples']
        assert min(sample['inputs'].shape[1:]) == min(samples.img_shape) == short_side
        # labels stay at the size of the file, where predictions are compared with them
        label = samples.gt_sem_seg.data
        assert tuple(label.shape[1:]) == tuple(samples.ori_shape) == (72, 96)
        # the encoding is undone to the same classes that the scene was drawn with
        assert {cast.sky, cast.road, cast.verge} <= set(np.unique(label.numpy()).tolist())


@pytest.mark.parametrize('layout', LAYOUTS)
def test_test_time_augmentation(layout: str, toy_roots: dict[str, Path]) -> None:
    config, dataset = build(layout, toy_roots, 'val')
    samples = Compose(config.tta_pipeline)(dataset.get_data_info(0))
    assert len(samples['inputs']) == 2 * len(config.img_ratios)
    sides = sorted(min(image.shape[1:]) for image in samples['inputs'])
    short_side = config.test_pipeline[1]['scale'][1]
    assert sides == [int(short_side * ratio) for ratio in config.img_ratios for _ in range(2)]


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('name', ['train_pipeline', 'test_pipeline', 'tta_pipeline'])
def test_labels_are_checked_right_after_loading(layout: str, name: str) -> None:
    steps = Config.fromfile(BASES / CONFIGS[layout])[name]
    if name == 'tta_pipeline':
        steps = [step for (step, *_) in steps[-1]['transforms']]
    kinds = [step['type'] for step in steps]
    check = steps[kinds.index('LoadAnnotations') + 1]
    assert check == dict(type='CheckLabels', num_classes=LAYOUTS[layout].num_classes)
