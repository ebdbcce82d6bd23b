"""Two CPU processes train one model without find_unused_parameters."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from mmseg_arta.datasets.toy import write_toy_dataset
from tests.forked import outputs_of_two, run_script
from tests.pages import ROOT

WORKER = Path(__file__).with_name('distributed_worker.py')


def test_processes_stay_equal():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    for output in outputs_of_two(lambda rank: run_script(WORKER, rank, port)):
        assert len(re.findall('^(trains|accumulates|recomputes): ', output, re.M)) == 19


def test_the_documented_launch(tmp_path):
    page = (ROOT / 'docs' / 'running.md').read_text(encoding='utf-8')
    (command,) = re.findall(r'On CPUs it is `mim (train [^`]*)`', page)
    write_toy_dataset(str(tmp_path / 'camvid'), 'camvid', train=4, val=2, size=(64, 96), seed=0)
    config = tmp_path / 'two.py'
    base = ROOT / 'configs/arta/arta-nano_segformer_1xb4-2k_camvid-256x256.py'
    config.write_text(
        f"""_base_ = [{str(base)!r}]
model = dict(
    data_preprocessor=dict(size=(64, 64)), decode_head=dict(norm_cfg=dict(type='SyncBN'))
)
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
loader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root='camvid'))
train_dataloader = dict(batch_size=2, **loader)
val_dataloader = loader
test_dataloader = loader
"""
    )
    mim = [sys.executable, '-c', 'from mim.cli import cli; cli()']
    arguments = command.replace('CONFIG', str(config)).split()
    small = ['train_dataloader.dataset.pipeline.5.crop_size=(64,64)']
    small += [f'{mode}_dataloader.dataset.pipeline.1.scale=(96,64)' for mode in ('val', 'test')]
    done = subprocess.run(
        [*mim, *arguments, '--work-dir', str(tmp_path / 'run'), '--cfg-options', *small],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '-1'},
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-6000:]
    assert re.search(r'Iter\(train\) \[2/2\]', output) and 'mIoU' in output
    assert 'Distributed training: True' in output and re.search(r'GPU number: 2\b', output)
    assert (tmp_path / 'run' / 'iter_2.pth').is_file()
