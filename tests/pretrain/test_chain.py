"""From toy pictures to a tested segmentor by stock mim: pre-train, test, fine-tune, test."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmseg_arta.pretrain', exc_type=ImportError)
pytest.importorskip('mim')

from mim.utils import get_installed_path

from mmseg_arta.datasets.toy import write_toy_dataset
from tests.forked import mim, outputs_of_two, run_script
from tests.pages import ROOT
from tests.processes import python_environment

CLASSIFIER = ROOT / 'configs/imagenet/arta-nano_1xb64-8e_cifar10-64x64.py'
SEGMENTOR = ROOT / 'configs/arta/arta-nano-cifar10_mask2former_1xb4-2k_camvid-256x256.py'
CONVERTER = ROOT / 'tools/model_converters/convert_checkpoint.py'


def command(*arguments: object, cwd: Path) -> str:
    """Output of a command, which has to succeed."""
    done = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        env=python_environment(),
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout + done.stderr


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp('toy')
    return write_toy_dataset(folder / 'imagenet', 'imagenet', train=10, val=4, size=(40, 40))


def classifier_options(pictures: Path, **more: object) -> list[str]:
    options = {
        f'{loader}_dataloader.dataset.data_root': pictures for loader in ('train', 'val', 'test')
    }
    options |= {f'{loader}_dataloader.num_workers': 0 for loader in ('train', 'val', 'test')}
    options |= {
        'train_dataloader.batch_size': 4,
        'train_cfg.max_epochs': 1,
        'default_hooks.logger.interval': 1,
    }
    return ['--cfg-options', *(f'{key}={value}' for key, value in (options | more).items())]


@pytest.fixture(scope='module')
def pretrained(pictures, tmp_path_factory):
    """Checkpoint of a pre-training run of one epoch."""
    folder = tmp_path_factory.mktemp('pretrained')
    run = ['--gpus', '0', '--work-dir', folder / 'run']
    # By its name where that finds this checkout; tested by its path.
    which = ('mmseg_arta', CLASSIFIER.name)
    if Path(get_installed_path('mmseg_arta')).resolve() != ROOT:
        which = ('mmpretrain', CLASSIFIER)
    output = mim('train', *which, *run, *classifier_options(pictures), cwd=folder)
    assert 'Epoch(train) [1][3/3]' in output and 'accuracy/top1' in output
    return folder / 'run/epoch_1.pth'


def test_mim_tests_a_classifier(pictures, pretrained, tmp_path):
    # A test needs no training images.
    options = classifier_options(
        pictures, **{'train_dataloader.dataset.data_root': tmp_path / 'nowhere'}
    )
    place = ['--gpus', '0', '--work-dir', tmp_path / 'test', '--checkpoint', pretrained]
    first, second = (
        mim('test', 'mmpretrain', CLASSIFIER, *place, *options, cwd=tmp_path) for _ in range(2)
    )
    (one,), (two,) = (
        {line.split('accuracy/top1:')[1].split()[0] for line in out.splitlines() if 'top1:' in line}
        for out in (first, second)
    )
    # The same tokens are drawn in every test.
    assert one == two


def test_the_chain_from_classifier_to_tested_segmentor(pretrained, tmp_path):
    data = write_toy_dataset(tmp_path / 'camvid', 'camvid', train=2, val=1, size=(64, 96))
    options = {
        f'{loader}_dataloader.{key}': value
        for loader in ('train', 'val', 'test')
        for key, value in (
            ('dataset.data_root', data),
            ('num_workers', 0),
            ('persistent_workers', False),
        )
    }
    options |= {
        'train_cfg.max_iters': 1,
        'train_cfg.val_interval': 1,
        'default_hooks.checkpoint.interval': 1,
        'default_hooks.checkpoint.save_best': None,
        'train_dataloader.batch_size': 2,
        'model.data_preprocessor.size': '(64,64)',
        'train_dataloader.dataset.pipeline.5.crop_size': '(64,64)',
        'val_dataloader.dataset.pipeline.1.scale': '(96,64)',
        'test_dataloader.dataset.pipeline.1.scale': '(96,64)',
        # What is loaded stays as it is.
        'optim_wrapper.optimizer.lr': 0.0,
    }
    options = ['--cfg-options', *(f'{key}={value}' for key, value in options.items())]
    (tmp_path / 'pretrain').mkdir()
    file = tmp_path / 'pretrain/arta-nano_cifar10.pth'
    command(sys.executable, CONVERTER, 'arta', pretrained, file, cwd=tmp_path)
    run = ['--gpus', '0', '--work-dir', tmp_path / 'run']
    mim('train', 'mmsegmentation', SEGMENTOR, *run, *options, cwd=tmp_path)

    found = torch.load(tmp_path / 'run/iter_1.pth', weights_only=False)['state_dict']
    start = torch.load(pretrained, weights_only=False)['state_dict']
    backbone = {key: value for key, value in start.items() if key.startswith('backbone.')}
    assert all(torch.equal(found[key], value) for key, value in backbone.items())
    new = {key for key in found if key.startswith('backbone.')} - backbone.keys()
    assert len(new) == 30 and all('.score.' in key for key in new)

    test = ['--gpus', '0', '--work-dir', tmp_path / 'test']
    checkpoint = ['--checkpoint', tmp_path / 'run/iter_1.pth']
    file.unlink()  # a test needs it no more
    output = mim('test', 'mmsegmentation', SEGMENTOR, *checkpoint, *test, *options, cwd=tmp_path)
    assert 'mIoU' in output


def test_two_processes_on_a_cpu(pictures, tmp_path):
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    options = classifier_options(
        pictures,
        **{
            'train_dataloader.batch_size': 2,
            'model_wrapper_cfg.type': 'MMDistributedDataParallel',
            'model_wrapper_cfg.device_ids': None,
            'env_cfg.dist_cfg.backend': 'gloo',
        },
    )
    script = [ROOT / 'tools/train.py', CLASSIFIER, '--work-dir', tmp_path / 'run']
    # What torch.distributed.run tells the two that it starts.
    told = dict(WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))

    def train(rank: int) -> None:
        os.environ.update(told, RANK=str(rank), LOCAL_RANK=str(rank))
        run_script(*script, '--launcher', 'pytorch', *options)

    output = outputs_of_two(train)[0]
    assert 'Epoch(train) [1][3/3]' in output and 'accuracy/top1' in output
    assert 'GPU number: 2' in output
