"""One process of a two-process training run; see test_distributed.py.

Arguments: rank, port, threshold of this rank, folder for the weights.
"""

from __future__ import annotations

import os
import sys

import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

import mmseg_arta  # noqa: F401

SMALL = dict(
    dims=(32, 32, 16, 16),
    num_heads=(1, 1, 1, 1),
    allocation_depths=(1, 1, 1),
    refinement_depths=(1, 1, 1, 1),
    mlp_ratio=2.0,
)


class Losses(torch.nn.Module):
    """A segmentor whose forward pass gives the summed loss, as DDP needs it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images, samples):
        losses = self.model.loss(images, samples)
        return sum(value for name, value in losses.items() if 'loss' in name)


def main(rank: int, port: int, threshold: float, folder: str) -> None:
    """Three training steps; the threshold decides whether this rank's images get tokens."""
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    dist.init_process_group('gloo', rank=rank, world_size=2)
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='mmseg.EncoderDecoder',
            backbone=dict(type='mmseg.ARTA', arch=SMALL, drop_path_rate=0.0),
            neck=dict(type='mmseg.TokensToMaps', in_channels=SMALL['dims'], out_indices=(0,)),
            decode_head=dict(
                type='mmseg.FCNHead',
                in_channels=16,
                in_index=0,
                channels=8,
                num_convs=1,
                num_classes=3,
                norm_cfg=dict(type='BN'),
            ),
            auxiliary_head=dict(type='mmseg.BoundaryScoreHead'),
        )
    )
    model.backbone.policy.thresholds = (threshold,) * 3
    parallel = DistributedDataParallel(Losses(model))
    optimizer = torch.optim.SGD(parallel.parameters(), 0.01)
    torch.manual_seed(rank)
    for _ in range(3):
        labels = torch.randint(0, 3, (2, 1, 64, 64))
        samples = [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]
        optimizer.zero_grad()
        parallel(torch.randn(2, 3, 64, 64), samples).backward()
        optimizer.step()
    torch.save(model.backbone.state_dict(), f'{folder}/{rank}.pth')
    dist.destroy_process_group()


if __name__ == '__main__':
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
