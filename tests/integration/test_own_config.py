"""A config of one's own, from the wheel alone: begun, trained with, taken to another place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mmseg_arta.datasets.toy import write_toy_dataset
from tests.wheels import environment

NANO = 'arta-nano_segformer_1xb4-2k_camvid-256x256'


def run(*command: object, cwd: Path, site: Path) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        env=environment(site),
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout + done.stderr


def test_mim_trains_a_config_that_inherits_a_bundled_one(site, tmp_path):
    write_toy_dataset(str(tmp_path / 'toy'), 'camvid', train=2, val=1, size=(64, 96), seed=0)
    command = [sys.executable, '-m', 'mmseg_arta.configs']
    run(*command, NANO, '--out', 'my_config.py', cwd=tmp_path, site=site)
    with (tmp_path / 'my_config.py').open('a') as file:
        file.write(
            "data = dict(dataset=dict(data_root='toy'), num_workers=0, persistent_workers=False)\n"
            'train_dataloader = dict(batch_size=2, **data)\n'
            'val_dataloader = data\n'
            'train_cfg = dict(max_iters=2, val_interval=2)\n'
            'default_hooks = dict(logger=dict(interval=1), checkpoint=dict(save_best=None))\n'
        )
    where = [sys.executable, '-c', 'import mmseg_arta; print(mmseg_arta.__file__)']
    assert str(site) in run(*where, cwd=tmp_path, site=site)
    output = run(
        *('mim', 'train', 'mmsegmentation', 'my_config.py', '--gpus', '0'),
        cwd=tmp_path,
        site=site,
    )
    assert 'Iter(train) [2/2]' in output and 'aux.loss_boundary_3' in output and 'mIoU' in output
