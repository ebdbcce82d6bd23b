from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import Compose
from mmseg.registry import DATASETS, TRANSFORMS

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='CheckLabels', num_classes=11),
]
LATE_PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 64)),
    dict(type='LoadAnnotations'),
    dict(type='CheckLabels', num_classes=11),
]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    image, label = tmp_path / 'street.png', tmp_path / 'street_label.png'
    cv2.imwrite(str(image), np.zeros((32, 48, 3), np.uint8))
    return image, label


def load(pair: tuple[Path, Path], label: np.ndarray, pipeline: list = PIPELINE, **options) -> dict:
    cv2.imwrite(str(pair[1]), label)
    info = dict(label_map=None, reduce_zero_label=False, seg_fields=[])
    return Compose(pipeline)(
        {**info, 'img_path': str(pair[0]), 'seg_map_path': str(pair[1]), **options}
    )


@pytest.mark.parametrize('pipeline', [PIPELINE, LATE_PIPELINE], ids=['training', 'testing'])
def test_good_labels_pass_unchanged(pair: tuple[Path, Path], pipeline: list) -> None:
    label = np.resize(np.array([*range(11), 255], np.uint8), (32, 48))
    np.testing.assert_array_equal(load(pair, label, pipeline)['gt_seg_map'], label)


@pytest.mark.parametrize('pipeline', [PIPELINE, LATE_PIPELINE], ids=['training', 'testing'])
def test_size_mismatch(pair: tuple[Path, Path], pipeline: list) -> None:
    message = r'street_label\.png.*street\.png.* is 30x48, the image is 32x48'
    with pytest.raises(ValueError, match=message):
        load(pair, np.zeros((30, 48), np.uint8), pipeline)


def test_label_outside_the_classes(pair: tuple[Path, Path]) -> None:
    label = np.zeros((32, 48), np.uint8)
    label[0, :3], label[1, :2] = 11, 254
    message = r'street_label\.png.*label 11, 254 \(5 pixels\); expected 0 to 10, or 255'
    with pytest.raises(ValueError, match=message):
        load(pair, label)


def test_label_outside_the_classes_after_reduce_zero_label(pair: tuple[Path, Path]) -> None:
    label = np.full((32, 48), 11, np.uint8)
    label[0, 0] = 0
    load(pair, label, reduce_zero_label=True)
    label[0, 1] = 12
    with pytest.raises(ValueError, match=r'label 11 \(1 pixels\).*one higher'):
        load(pair, label, reduce_zero_label=True)


def test_colours_instead_of_indices(pair: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match='class indices, not colours'):
        load(pair, np.zeros((32, 48, 3), np.uint8))


def test_selected_classes_count(pair: tuple[Path, Path]) -> None:
    # of 11 classes the data set keeps the second and the fourth
    label_map = {c: {1: 0, 3: 1}.get(c, 255) for c in range(11)}
    label = np.resize(np.arange(11, dtype=np.uint8), (32, 48))
    load(pair, label, label_map=label_map)
    label[0, 0] = 12
    with pytest.raises(ValueError, match=r'label 12 .*expected 0 to 1,'):
        load(pair, label, label_map=label_map)


def test_image_without_labels_passes() -> None:
    results = dict(img=np.zeros((4, 4, 3)), ori_shape=(4, 4))
    assert TRANSFORMS.build(PIPELINE[-1])(results) is results


def test_number_of_classes_is_checked() -> None:
    with pytest.raises(ValueError, match='num_classes must be at least 1, found 0'):
        TRANSFORMS.build(dict(type='CheckLabels', num_classes=0))


def test_data_set_raises_it(toy_roots: dict[str, Path]) -> None:
    base = Path(__file__).parents[2] / 'configs/_base_/datasets/camvid_256x256.py'
    settings = Config.fromfile(base).val_dataloader.dataset
    # Cityscapes' labels read as CamVid's
    settings.update(data_root=str(toy_roots['cityscapes']), img_suffix='_leftImg8bit.png')
    settings.seg_map_suffix = '_gtFine_labelTrainIds.png'
    settings.data_prefix = dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val')
    with pytest.raises(ValueError, match=r'_labelTrainIds\.png.*expected 0 to 10'):
        DATASETS.build(settings)[0]


@pytest.mark.parametrize('size', [(1, 48), (32, 1), (1, 1)])
@pytest.mark.parametrize('pipeline', [PIPELINE, LATE_PIPELINE], ids=['training', 'testing'])
def test_one_row_is_no_colours(pair: tuple[Path, Path], pipeline: list, size) -> None:
    cv2.imwrite(str(pair[0]), np.zeros((*size, 3), np.uint8))
    label = np.resize(np.arange(11, dtype=np.uint8), size)
    np.testing.assert_array_equal(load(pair, label, pipeline)['gt_seg_map'], label)


@pytest.mark.parametrize(
    ('shape', 'message'),
    [
        ((1, 48, 3), 'expected one channel'),
        ((1, 47), r'is 1x47, the image is 1x48'),
        ((32, 48), r'is 32x48, the image is 1x48'),
    ],
)
def test_wrong_labels_of_one_row(pair: tuple[Path, Path], shape, message: str) -> None:
    cv2.imwrite(str(pair[0]), np.zeros((1, 48, 3), np.uint8))
    label = np.random.default_rng(0).integers(0, 11, shape, dtype=np.uint8)
    with pytest.raises(ValueError, match=message):
        load(pair, label)
