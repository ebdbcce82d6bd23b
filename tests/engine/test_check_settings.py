"""Facts that several parts of a config state."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS, MODELS

from mmseg_arta.datasets.toy import write_toy_dataset
from mmseg_arta.engine import CheckSettingsHook, TokenStatisticsHook
from tests.configs.resolved import CONFIGS

NANO = CONFIGS['arta-nano_mask2former_1xb4-2k_camvid-256x256']


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp('toy') / 'camvid'
    return str(write_toy_dataset(folder, 'camvid', train=1, val=1, size=(64, 96)))


def check(data: str, wrap: Any = None, **options: Any) -> None:
    init_default_scope('mmseg')
    config = Config.fromfile(NANO)
    config.merge_from_dict({'train_dataloader.dataset.data_root': data, **options})
    dataset = DATASETS.build(config.train_dataloader.dataset)
    if wrap is not None:
        dataset = wrap(dataset)
    runner = SimpleNamespace(
        model=MODELS.build(config.model),
        train_dataloader=SimpleNamespace(dataset=dataset),
        val_loop=None,
        hooks=[TokenStatisticsHook()],
    )
    CheckSettingsHook().before_train(runner)


def concatenated(dataset: BaseSegDataset) -> Any:
    from mmengine.dataset import ConcatDataset

    return ConcatDataset([dataset, dataset])


def repeated(dataset: BaseSegDataset) -> Any:
    from mmengine.dataset import RepeatDataset

    return RepeatDataset(dataset, 2)


@pytest.mark.parametrize('wrap', [None, concatenated, repeated])
def test_bundled_settings_agree(data: str, wrap: Any) -> None:
    check(data, wrap)


@pytest.mark.parametrize(
    ('option', 'place'),
    [
        ('model.decode_head.ignore_index', 'decode_head.ignore_index=11'),
        ('model.auxiliary_head.ignore_index', 'auxiliary_head.ignore_index=11'),
        ('model.data_preprocessor.seg_pad_val', 'data_preprocessor.seg_pad_val=11'),
        ('train_dataloader.dataset.ignore_index', 'CamVidDataset.ignore_index=11'),
        ('train_dataloader.dataset.pipeline.2.ignore_index', 'CheckLabels.ignore_index=11'),
        ('train_dataloader.dataset.pipeline.5.ignore_index', 'RandomCrop.ignore_index=11'),
    ],
)
@pytest.mark.parametrize('wrap', [None, concatenated])
def test_another_ignore_index_is_named(data: str, option: str, place: str, wrap: Any) -> None:
    with pytest.raises(ValueError, match='expected one ignore_index in all places') as caught:
        check(data, wrap, **{option: 11})
    assert place in str(caught.value) and '=255' in str(caught.value)


def test_an_agreed_index_of_ones_own(data: str) -> None:
    check(
        data,
        **{
            'model.decode_head.ignore_index': 11,
            'model.auxiliary_head.ignore_index': 11,
            'model.data_preprocessor.seg_pad_val': 11,
            'train_dataloader.dataset.ignore_index': 11,
            'train_dataloader.dataset.pipeline.2.ignore_index': 11,
            'train_dataloader.dataset.pipeline.5.ignore_index': 11,
        },
    )


def test_fewer_classes_than_the_data_set_has(data: str) -> None:
    with pytest.raises(ValueError, match=r'decode_head.num_classes is 5, but CamVidDataset has 11'):
        check(data, **{'model.decode_head.num_classes': 5})
