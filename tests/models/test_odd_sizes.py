"""The smallest and very long images through every family, and large ones in windows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmseg.structures import SegDataSample

from tests.builders import FAMILIES, NANO, SMALL_HEAD, family_segmentor


@pytest.mark.parametrize('size', [(1, 1), (31, 4097)], ids=['1x1', '31x4097'])
@pytest.mark.parametrize('name', FAMILIES)
@torch.no_grad()
def test_every_family_predicts(name: str, size: tuple[int, int]) -> None:
    model = family_segmentor(name).eval()
    sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size))
    (found,) = model.predict(torch.randn(1, 3, *size), [sample])
    assert found.seg_logits.data.shape == (5, *size) and found.seg_logits.data.isfinite().all()
    assert found.pred_sem_seg.data.shape == (1, *size)


# Prints, for segmentors of several types, the bytes that slide inference takes at most, its
# image included, beyond what the process holds before it.
_MEASURE = """
import json, sys, torch, mmseg_arta
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

init_default_scope('mmseg')
torch.manual_seed(0)
torch.set_num_threads(1)
config, sizes, kinds = map(json.loads, sys.argv[1:])

def resident(name):
    lines = open('/proc/self/status').read().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))

def peak(model, size):
    with open('/proc/self/clear_refs', 'w') as file:
        file.write('5')  # forget the peak
    before = resident('VmRSS')
    image = torch.zeros(1, 3, *size).normal_()
    with torch.no_grad():
        model.inference(image, [dict(ori_shape=size, img_shape=size)])
    return resident('VmHWM') - before

found = []
for kind in kinds:
    model = MODELS.build(ConfigDict(config, type=kind)).eval()
    peak(model, sizes[0])  # what is loaded by the first call
    found.append([peak(model, size) for size in sizes])
print(json.dumps(found))
"""
_CROP = 192
_CLASSES = 5
#: Numbers of 32 bits per pixel of an image, whatever the model: its channels, the sums of scores
#: and the windows at the pixel. The stock mode pads the scores of every window to the image.
PER_PIXEL = {
    'BatchedSlideEncoderDecoder': 3 + _CLASSES + 1,
    'EncoderDecoder': 3 + _CLASSES + 1 + _CLASSES,
}
# Memory is resident by pages, and libraries keep some.
_SLACK = 6 << 20


@pytest.mark.skipif(not Path('/proc/self/clear_refs').exists(), reason='peak memory as in Linux')
def test_memory_of_a_large_image_is_that_of_its_windows() -> None:
    config = dict(
        backbone=dict(type='ARTA', arch=NANO, allocation=dict(type='FullAllocation')),
        decode_head=dict(SMALL_HEAD, num_classes=_CLASSES),
        test_cfg=dict(mode='slide', crop_size=[_CROP, _CROP], stride=[_CROP, _CROP]),
        train_cfg=dict(),
    )
    sizes = [(_CROP, _CROP), (2 * _CROP, 2 * _CROP), (6 * _CROP, 6 * _CROP)]
    command = [sys.executable, '-W', 'ignore', '-c', _MEASURE]
    run = subprocess.run(
        [*command, *map(json.dumps, (config, sizes, list(PER_PIXEL)))],
        capture_output=True,
        text=True,
        check=False,
        # glibc gives large blocks back at once, and does not learn to keep them.
        env=dict(os.environ, MALLOC_MMAP_THRESHOLD_='65536', MALLOC_TRIM_THRESHOLD_='65536'),
    )
    assert run.returncode == 0, run.stderr
    peaks = json.loads(run.stdout.splitlines()[-1])
    # Nothing is left of a window but what it adds to the sums.
    for numbers, (window, *large) in zip(PER_PIXEL.values(), peaks, strict=True):
        for (height, width), found in zip(sizes[1:], large, strict=True):
            assert found <= 4 * numbers * height * width + window + _SLACK
