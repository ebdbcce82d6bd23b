"""One class, and two classes in two channels or in one: every head trained, tested, averaged."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.evaluation import IoUMetric
from mmseg.registry import MODELS
from torch import nn

from mmseg_arta.models.decode_heads.one_channel import SCORE_THRESHOLD, to_channels
from tests.builders import NANO, SMALL_HEAD, samples

SIZE = (64, 64)
VIT = dict(type='StepViT', arch=dict(embed_dims=32, num_layers=4, num_heads=2))
ATM = dict(in_channels=32, channels=16, num_heads=2, num_layers=2)
ARTA = dict(
    type='ARTA',
    arch=NANO,
    allocation=dict(type='ThresholdAllocation', thresholds=(0.0, 0.0, 0.0)),
)
MIT = dict(
    type='MixVisionTransformer',
    embed_dims=8,
    num_layers=[1, 1, 1, 1],
    num_heads=[1, 1, 1, 1],
    mlp_ratio=2,
)


def vit(**options: Any) -> dict[str, Any]:
    return dict(VIT, img_size=64, **options)


CASES: dict[str, dict[str, Any]] = {
    'mask2former on tokens': dict(
        backbone=ARTA,
        decode_head=SMALL_HEAD,
        auxiliary_head=dict(type='BoundaryScoreHead'),
    ),
    'mask2former on maps': dict(
        backbone=MIT,
        decode_head=dict(
            SMALL_HEAD,
            in_channels=(8, 8, 8, 8),
            dim=64,
            pixel_decoder=dict(type='grid', num_layers=1, num_heads=2, hidden=32),
        ),
    ),
    'segvit': dict(backbone=vit(out_indices=(0, 1, 2)), decode_head=dict(type='ATMHead', **ATM)),
    'segvit, second version': dict(
        backbone=vit(out_indices=(0, 1, 2)),
        decode_head=dict(type='ATMHead', self_attention=False, classes='presence', **ATM),
    ),
    'segvit, shrunk': dict(
        backbone=vit(out_indices=(1, 3), shrink_at=2),
        decode_head=dict(type='ShrunkATMHead', grid=(4, 4), **ATM),
    ),
    'dtop': dict(
        backbone=vit(
            out_indices=(3,),
            halting=dict(
                after=(1,),
                head=dict(type='ATMTokenClassifier', **ATM),
                policy=dict(type='ConfidenceHalting', threshold=0.6),
            ),
        ),
        decode_head=dict(type='HaltingATMHead', **ATM),
    ),
    'lrhead': dict(
        backbone=MIT,
        decode_head=dict(type='LRHead', in_channels=[8, 8, 8], channels=16, num_heads=2),
    ),
    'stock head': dict(
        backbone=ARTA,
        neck=dict(type='TokensToMaps', in_channels=NANO['dims']),
        decode_head=dict(
            type='SegformerHead',
            in_channels=list(reversed(NANO['dims'])),
            in_index=[0, 1, 2, 3],
            channels=16,
            norm_cfg=dict(type='BN'),
        ),
    ),
}


def build(name: str, classes: int, channels: int | None) -> nn.Module:
    init_default_scope('mmseg')
    torch.manual_seed(0)
    config = ConfigDict(type='EncoderDecoder', train_cfg=dict(), test_cfg=dict(mode='whole'))
    config.update(ConfigDict(CASES[name]))
    head = config.decode_head
    head.update(num_classes=classes)
    if channels is not None:
        head.update(out_channels=channels)
    if head.type in ('LRHead', 'SegformerHead') and channels == 1:
        # As in every stock config for it.
        head.update(loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True))
    if 'halting' in config.backbone:
        config.backbone.halting.head.update(num_classes=classes)
    model = MODELS.build(config)
    model.init_weights()
    return model


@pytest.mark.parametrize(('classes', 'channels'), [(1, None), (2, None), (2, 1)])
@pytest.mark.parametrize('name', list(CASES))
def test_trained_tested_and_averaged(name: str, classes: int, channels: int | None) -> None:
    model = build(name, classes, channels)
    batch = samples(SIZE, classes=classes)
    for sample in batch:
        sample.set_metainfo(dict(img_path='a.png'))
    losses = model.loss(torch.randn(2, 3, *SIZE), batch)
    total = sum(value for key, value in losses.items() if 'loss' in key)
    total.backward()
    assert torch.isfinite(total)
    model.eval()
    image = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        found = model.predict(image, batch)
    outputs = channels or classes
    metric = IoUMetric(iou_metrics=['mIoU'])
    metric.dataset_meta = dict(classes=[str(number) for number in range(classes)])
    for sample in found:
        assert sample.seg_logits.data.shape == (outputs, *SIZE)
        assert set(sample.pred_sem_seg.data.unique().tolist()) <= set(range(max(classes, 2)))
    metric.process({}, [sample.to_dict() for sample in found])
    assert 0 <= metric.evaluate(2)['mIoU'] <= 100
    scores = 'LRHead' not in str(type(model.decode_head)) and 'Segformer' not in str(
        type(model.decode_head)
    )
    kind = 'ScoreTTAModel' if scores else 'SegTTAModel'
    tta = MODELS.build(dict(type=kind, module=model))
    (merged,) = tta.merge_preds([found])
    assert merged.pred_sem_seg.data.shape == (1, *SIZE)


def test_one_channel_decides_as_two_do() -> None:
    two, one = (build('mask2former on tokens', 2, channels).eval() for channels in (None, 1))
    one.load_state_dict(two.state_dict())
    image = torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        first, second = (model.predict(image, samples(SIZE)) for model in (two, one))
    for in_two, in_one in zip(first, second, strict=True):
        scores = in_two.seg_logits.data
        sure = (scores[0] - scores[1]).abs() > 1e-4
        assert sure.any()
        labels, same = in_two.pred_sem_seg.data[0], in_one.pred_sem_seg.data[0]
        assert (labels[sure] == same[sure]).all()


def test_share_of_the_second_class() -> None:
    scores = torch.tensor([[0.2, 0.6, 0.0], [0.6, 0.2, 0.0]]).view(1, 2, 1, 3)
    found = to_channels(scores, 1).flatten()
    torch.testing.assert_close(found, torch.tensor([0.75, 0.25, 0.5]))
    assert ((found.sigmoid() > SCORE_THRESHOLD) == torch.tensor([True, False, False])).all()


@pytest.mark.parametrize(
    'name', [name for name in CASES if 'stock' not in name and 'lr' not in name]
)
@pytest.mark.parametrize(('classes', 'channels'), [(0, None), (3, 1), (2, 3)])
def test_what_does_not_go_together_is_named(name: str, classes: int, channels: int | None) -> None:
    with pytest.raises(ValueError, match=r'num_classes|out_channels'):
        build(name, classes, channels)
