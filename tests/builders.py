"""Small models and random samples that several tests share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

#: ``arch`` of the smallest ARTA.
NANO = dict(
    dims=(32, 32, 16, 16),
    num_heads=(2, 2, 2, 1),
    allocation_depths=(1, 1, 1),
    refinement_depths=(1, 1, 1, 1),
    mlp_ratio=2.0,
)
#: The smallest sparse Mask2Former behind it, for five classes.
SMALL_HEAD = dict(
    type='SparseMask2FormerHead',
    in_channels=NANO['dims'],
    num_classes=5,
    dim=16,
    num_queries=8,
    pixel_decoder=dict(num_layers=1, num_heads=2, hidden=32),
    transformer_decoder=dict(num_layers=3, num_heads=2, hidden=32),
)


def sparse_segmentor(test_cfg: Mapping[str, Any] | None = None, **head: Any) -> nn.Module:
    """The smallest ARTA with sparse Mask2Former, all tokens allocated; ``head`` changes options."""
    return _segmentor(
        test_cfg,
        backbone=dict(
            type='ARTA',
            arch=NANO,
            allocation=dict(type='ThresholdAllocation', thresholds=(0.0, 0.0, 0.0)),
        ),
        decode_head={**SMALL_HEAD, **head},
        auxiliary_head=dict(type='BoundaryScoreHead'),
    )


def dense_segmentor(
    pixel_decoder: Mapping[str, Any], test_cfg: Mapping[str, Any] | None = None
) -> nn.Module:
    """A small MiT with Mask2Former on its maps."""
    options = dict(num_layers=1, num_heads=2, hidden=32)
    return _segmentor(
        test_cfg,
        backbone=dict(
            type='MixVisionTransformer',
            embed_dims=8,
            num_layers=[1, 1, 1, 1],
            num_heads=[1, 1, 1, 1],
            mlp_ratio=2,
        ),
        decode_head=dict(
            type='SparseMask2FormerHead',
            in_channels=(8, 8, 8, 8),
            num_classes=5,
            dim=32,
            num_queries=8,
            cell_position='none',
            pixel_decoder={**pixel_decoder, **options},
            transformer_decoder=dict(num_layers=3, num_heads=2, hidden=32),
        ),
    )


def _segmentor(test_cfg: Mapping[str, Any] | None, **parts: Any) -> nn.Module:
    test_cfg = test_cfg or dict(mode='whole')
    model = MODELS.build(dict(type='EncoderDecoder', train_cfg=dict(), test_cfg=test_cfg, **parts))
    model.test_cfg = ConfigDict(model.test_cfg)
    return model


def samples(size: tuple[int, int], classes: int = 5, batch: int = 2) -> list[SegDataSample]:
    """Samples of images of ``size`` (height, width) with random labels."""
    out = []
    for _ in range(batch):
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, classes, (1, *size)))
        out.append(sample)
    return out
