from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS

from mmseg_arta.analysis.calibration import LabelMaps
from mmseg_arta.analysis.flops.samples import dataset_pictures

PREFIX = dict(img_path='images/train', seg_map_path='annotations/train')


def build(root: Path, **options):
    settings = dict(type='CamVidDataset', data_root=str(root), data_prefix=dict(PREFIX))
    return DATASETS.build({**settings, **options})


@pytest.fixture
def root(toy_roots: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_roots['camvid'], tmp_path / 'camvid'))


def test_classes_and_palette() -> None:
    dataset = DATASETS.build(dict(type='CamVidDataset', lazy_init=True))
    assert dataset.metainfo['classes'][:4] == ('Sky', 'Building', 'Pole', 'Road')
    assert dataset.metainfo['classes'][-1] == 'Bicyclist'
    assert len(dataset.metainfo['classes']) == 11
    assert len({tuple(colour) for colour in dataset.metainfo['palette']}) == 11
    assert dataset.ignore_index == 255 and not dataset.reduce_zero_label


def test_pairs_images_with_labels(root: Path) -> None:
    dataset = build(root)
    assert len(dataset) == 6
    for info in (dataset.get_data_info(i) for i in range(6)):
        assert Path(info['img_path']).is_file() and Path(info['seg_map_path']).is_file()
        assert Path(info['img_path']).stem == Path(info['seg_map_path']).stem


def test_image_suffix_is_found(root: Path) -> None:
    for path in (root / 'images/train').iterdir():
        path.rename(path.with_suffix('.jpg'))
    info = build(root).get_data_info(0)
    assert info['img_path'].endswith('.jpg') and info['seg_map_path'].endswith('.png')


@pytest.mark.parametrize('suffix', ['.tif', '.PNG', '.Tiff', '.bmp', '.JPEG', '.webp'])
def test_images_of_every_kind_are_found(root: Path, suffix: str) -> None:
    for path in (root / 'images/train').iterdir():
        cv2.imwrite(str(path.with_suffix(suffix)), cv2.imread(str(path)))
        path.unlink()
    (root / 'images/train/notes.txt').write_text('no image')
    dataset = build(root, pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')])
    assert len(dataset) == 6
    found = dataset[0]
    assert found['img_path'].endswith(suffix) and found['gt_seg_map'].shape == (72, 96)


def test_mixed_suffixes_need_the_option(root: Path) -> None:
    first = min((root / 'images/train').iterdir())
    first.rename(first.with_suffix('.jpg'))
    with pytest.raises(ValueError, match=r'mixes images ending in \.png and \.jpg.*img_suffix'):
        build(root)
    assert len(build(root, img_suffix='.png')) == 5


@pytest.mark.parametrize('folder', ['images/train', 'annotations/train'])
def test_missing_folder_is_named(root: Path, folder: str) -> None:
    shutil.rmtree(root / folder)
    option = 'img_path' if folder.startswith('images') else 'seg_map_path'
    with pytest.raises(FileNotFoundError, match=f'{folder}.* not found.*data_root.*{option}'):
        build(root)


@pytest.mark.parametrize('suffix', [None, '.png'], ids=str)
def test_empty_folder_is_named(root: Path, suffix: str | None) -> None:
    for path in (root / 'images/train').iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match='images/train'):
        build(root, img_suffix=suffix)


def test_without_labels(root: Path) -> None:
    assert len(build(root, data_prefix=dict(img_path='images/val'))) == 2


def test_listed_files_only(root: Path) -> None:
    (root / 'some.txt').write_text('toy_train_000002\ntoy_train_000004\n')
    dataset = build(root, ann_file='some.txt')
    assert [Path(dataset.get_data_info(i)['img_path']).name for i in range(2)] == [
        'toy_train_000002.png',
        'toy_train_000004.png',
    ]


@pytest.mark.parametrize('end', ['', '\n', '\n\n', '\r\n', '\n  \n'])
def test_lists_with_endings_and_empty_lines(root: Path, end: str) -> None:
    (root / 'some.txt').write_text(f'toy_train_000002.png\n\ntoy_train_000004{end}', newline='')
    dataset = build(root, ann_file='some.txt')
    for number, stem in enumerate(('toy_train_000002', 'toy_train_000004')):
        info = dataset.get_data_info(number)
        assert Path(info['img_path']).is_file() and Path(info['seg_map_path']).is_file()
        assert Path(info['img_path']).name == f'{stem}.png'
    assert len(dataset) == 2


def test_a_list_without_images_is_named(root: Path) -> None:
    (root / 'some.txt').write_text('\n\n')
    with pytest.raises(FileNotFoundError, match=r'some\.txt.* names no image'):
        build(root, ann_file='some.txt')
    with pytest.raises(FileNotFoundError, match=r'none\.txt.* not found'):
        build(root, ann_file='none.txt')


@pytest.mark.parametrize('size', [(1, 96), (72, 1)])
def test_tools_read_images_of_one_row(root: Path, size: tuple[int, int]) -> None:
    for folder, shape in (('images/train', (*size, 3)), ('annotations/train', size)):
        for path in (root / folder).iterdir():
            cv2.imwrite(str(path), np.zeros(shape, np.uint8))
    steps = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    (picture, *_) = dataset_pictures(build(root, pipeline=steps), 6, labels=True)
    assert picture.pixels.shape[:2] == picture.labels.shape == size
    config = dict(type='CamVidDataset', data_root=str(root), data_prefix=dict(PREFIX))
    maps = list(LabelMaps(dict(config, pipeline=steps)))
    assert len(maps) == 6 and all(1 in labels.shape and labels.ndim == 2 for labels in maps)


def test_config_leaves_the_suffix_open() -> None:
    base = Path(__file__).parents[2] / 'configs/_base_/datasets/camvid_256x256.py'
    assert 'img_suffix' not in Config.fromfile(base).train_dataloader.dataset
