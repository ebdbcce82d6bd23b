"""One of two processes that validate; see test_token_statistics.py.

Arguments: rank, file of the process group. Prints what one process logs of both images, and what
this one logs of its own.
"""

from __future__ import annotations

import datetime
import json
import sys
from types import SimpleNamespace

import torch
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import distributed as dist

from mmseg_arta.engine import TokenStatisticsHook

SIZE = (64, 64)
ARCH = dict(
    dims=(32, 16, 16, 16),
    num_heads=(1, 1, 1, 1),
    allocation_depths=(1, 1, 1),
    refinement_depths=(1, 1, 1, 1),
)
#: Thresholds of the images: all tokens, and none, so that later rounds have no candidates.
THRESHOLDS = (-9.0, 9.0)


def logged(model: SimpleNamespace, images: list[int]) -> dict[str, float]:
    """What a validation of some of the images logs."""
    hub = MessageHub.get_instance(f'images {images} of {dist.is_initialized()}')
    runner = SimpleNamespace(model=model, logger=MMLogger.get_instance('statistics'))
    hook = TokenStatisticsHook()
    hook.before_run(runner)
    for number in images:
        generator = torch.Generator().manual_seed(number)
        model.backbone.policy.thresholds = (THRESHOLDS[number],) * 3
        with torch.no_grad():
            model.backbone(torch.randn((1, 3, *SIZE), generator=generator))
        # Not as many boundaries in both.
        truth = (torch.arange(SIZE[1]) % (2 + number) == 0).long().expand(1, *SIZE)
        sample = SegDataSample(
            metainfo=dict(img_shape=SIZE, ori_shape=SIZE), gt_sem_seg=PixelData(data=truth)
        )
        hook.after_val_iter(runner, number, outputs=[sample])
    hook.after_val_epoch(runner)
    hook.after_run(runner)
    return {name: float(buffer.current()) for name, buffer in hub.log_scalars.items()}


def main(rank: int, store: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    init_default_scope('mmseg')
    allocation = dict(type='ThresholdAllocation', thresholds=(0.0,) * 3)
    backbone = MODELS.build(ConfigDict(type='ARTA', arch=ARCH, allocation=allocation)).eval()
    backbone.init_weights()
    model = SimpleNamespace(backbone=backbone, test_cfg=dict(mode='whole'))
    together = logged(model, [0, 1])
    dist.init_process_group(
        'gloo',
        init_method=f'file://{store}',
        timeout=datetime.timedelta(seconds=60),
        rank=rank,
        world_size=2,
    )
    apart = logged(model, [rank])
    dist.destroy_process_group()
    print(json.dumps([together, apart]))


if __name__ == '__main__':
    main(int(sys.argv[1]), sys.argv[2])
