from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS

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


def test_config_leaves_the_suffix_open() -> None:
    base = Path(__file__).parents[2] / 'configs/_base_/datasets/camvid_256x256.py'
    assert 'img_suffix' not in Config.fromfile(base).train_dataloader.dataset
