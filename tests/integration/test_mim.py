"""Stock mim trains, resumes and tests bundled configs on toy data."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from mmseg_arta.datasets.toy import write_toy_dataset
from tests.forked import mim

ROOT = Path(__file__).resolve().parents[2]
NANO = 'arta-nano_segformer_1xb4-2k_camvid-256x256'
LOADERS = ('train', 'val', 'test')


def overrides(data: Path, **more: object) -> list[str]:
    """``--cfg-options`` for a tiny run on toy data."""
    options = {f'{loader}_dataloader.dataset.data_root': data for loader in LOADERS}
    options |= {f'{loader}_dataloader.num_workers': 0 for loader in LOADERS}
    options |= {f'{loader}_dataloader.persistent_workers': False for loader in LOADERS}
    options |= {
        'train_dataloader.batch_size': 2,
        'default_hooks.logger.interval': 1,
        'default_hooks.checkpoint.save_best': None,
    }
    return ['--cfg-options', *(f'{key}={value}' for key, value in (options | more).items())]


@pytest.fixture(scope='module')
def camvid(tmp_path_factory):
    root = tmp_path_factory.mktemp('toy') / 'camvid'
    write_toy_dataset(str(root), 'camvid', train=4, val=2, size=(64, 96), seed=0)
    return root


def iterations(output: str) -> list[int]:
    return [int(n) for n in re.findall(r'Iter\(train\) \[ *(\d+)/', output)]


def test_train_resume_and_test(camvid, tmp_path):
    config = str(ROOT / f'configs/arta/{NANO}.py')
    run = ['--gpus', '0', '--work-dir', str(tmp_path / 'run')]
    small = {
        'train_cfg.val_interval': 2,
        'default_hooks.checkpoint.interval': 2,
        'model.data_preprocessor.size': '(64,64)',
        'train_dataloader.dataset.pipeline.5.crop_size': '(64,64)',
        'test_dataloader.dataset.pipeline.1.scale': '(96,64)',
        'val_dataloader.dataset.pipeline.1.scale': '(96,64)',
    }
    first = mim(
        'train',
        'mmsegmentation',
        config,
        *run,
        *overrides(camvid, **{'train_cfg.max_iters': 2}, **small),
        cwd=tmp_path,
    )
    assert iterations(first) == [1, 2]
    assert 'aux.loss_boundary_3' in first and 'mIoU' in first and 'boundary_covered' in first

    resumed = mim(
        'train',
        'mmsegmentation',
        config,
        *run,
        '--resume',
        *overrides(camvid, **{'train_cfg.max_iters': 4}, **small),
        cwd=tmp_path,
    )
    assert iterations(resumed) == [3, 4]

    checkpoint = [
        '--checkpoint',
        str(tmp_path / 'run/iter_4.pth'),
        '--gpus',
        '0',
        '--work-dir',
        str(tmp_path / 'test'),
    ]
    # A test needs no training images.
    no_train = {'train_dataloader.dataset.data_root': tmp_path / 'nowhere'}
    tested = mim(
        'test',
        'mmsegmentation',
        config,
        *checkpoint,
        *overrides(camvid, **small, **no_train),
        cwd=tmp_path,
    )
    assert 'mIoU' in tested and list(tmp_path.glob('test/token_pictures/test/*.png'))

    augmented = mim(
        'test',
        'mmsegmentation',
        config,
        *checkpoint,
        '--tta',
        *overrides(camvid, **small),
        cwd=tmp_path,
    )
    assert 'mIoU' in augmented


def tiny(data: Path, layout: str, config: str) -> tuple[str, list[str]]:
    """A config of ARTA-Tiny and what makes two iterations on toy data of it."""
    write_toy_dataset(str(data), layout, train=2, val=1, size=(64, 96), seed=0)
    small = {
        'train_cfg.max_iters': 2,
        'train_cfg.val_interval': 2,
        'default_hooks.checkpoint.interval': 2,
        'model.data_preprocessor.size': '(64,64)',
        'train_dataloader.dataset.pipeline.5.crop_size': '(64,64)',
        'val_dataloader.dataset.pipeline.1.scale': '(96,64)',
        'test_dataloader.dataset.pipeline.1.scale': '(96,64)',
    }
    if layout == 'cityscapes':
        small |= {'model.test_cfg.crop_size': '(64,64)', 'model.test_cfg.stride': '(32,32)'}
    return str(ROOT / f'configs/arta/{config}.py'), overrides(data, **small)


def test_windows_with_a_stock_head(tmp_path):
    config = 'arta-tiny_segformer_4xb4-90k_cityscapes-1024x1024'
    path, small = tiny(tmp_path / 'data', 'cityscapes', config)
    # Only training looks for the file that the model starts from.
    run = ['--gpus', '0', '--work-dir', str(tmp_path / 'run')]
    scratch = [*small, 'model.backbone.init_cfg=None']
    output = mim('train', 'mmsegmentation', path, *run, *scratch, cwd=tmp_path)
    assert iterations(output) == [1, 2] and 'mIoU' in output
    test = ['--gpus', '0', '--work-dir', str(tmp_path / 'test')]
    test += ['--checkpoint', str(tmp_path / 'run/iter_2.pth')]
    output = mim('test', 'mmsegmentation', path, *test, *small, cwd=tmp_path)
    assert 'mIoU' in output and 'boundary_covered' in output


@pytest.mark.parametrize(
    'config, layout',
    [
        ('arta-tiny_segformer_4xb8-80k_ade20k-512x512', 'ade20k'),
        ('arta-tiny_upernet_4xb8-80k_coco-stuff164k-512x512', 'coco_stuff164k'),
    ],
)
def test_other_data_with_stock_heads(config, layout, tmp_path):
    path, small = tiny(tmp_path / 'data', layout, config)
    args = argparse.ArgumentParser()
    args.add_argument('--cfg-options', nargs='+', action=DictAction)
    # As the stock script does.
    loaded = Config.fromfile(path)
    loaded.merge_from_dict(args.parse_args(small).cfg_options)
    loaded.model.backbone.init_cfg = None
    loaded.work_dir = str(tmp_path / 'run')
    loaded.experiment_name = f'{layout}_{tmp_path.name}'
    runner = Runner.from_cfg(loaded)
    runner.train()
    assert (tmp_path / 'run/iter_2.pth').is_file()
    assert 0 <= runner.message_hub.get_scalar('val/mIoU').current() <= 100
