"""mmpretrain's own classifiers with our backbones, where mmpretrain is installed."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import init_default_scope

pytest.importorskip('mmseg_arta.pretrain', exc_type=ImportError)

from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

import mmseg_arta.models as models

CLASSES = 5
ARCH = dict(dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 4))
MIXED = dict(
    dims=(32, 32, 16, 16),
    num_heads=(2, 2, 2, 1),
    allocation_depths=(1, 1, 1),
    refinement_depths=(1, 1, 1, 1),
    mlp_ratio=2.0,
)
CONFIGS = {
    'aff': dict(type='AutoFocusFormer', arch=ARCH, drop_path_rate=0.0),
    'aff-1-5': dict(type='AutoFocusFormer', arch=ARCH, downsample_rate=0.2, drop_path_rate=0.0),
    'arta': dict(type='ARTA', arch=MIXED, drop_path_rate=0.0),
    'dups': dict(type='DUPS', arch=MIXED, image_hidden='deep', drop_path_rate=0.0),
    'swin': dict(type='AFFSwin', arch=ARCH),
    'lrformer': dict(
        type='LRFormer', arch=ARCH, pooled_size=7, out_indices=(3,), drop_path_rate=0.0
    ),
}


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmpretrain')


def classifier(name):
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=CONFIGS[name],
            neck=dict(type='GlobalAveragePooling'),
            head=dict(
                type='LinearClsHead',
                num_classes=CLASSES,
                in_channels=32,
                loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
            ),
            data_preprocessor=dict(
                num_classes=CLASSES, mean=[124, 116, 104], std=[58, 57, 57], to_rgb=True
            ),
            train_cfg=dict(
                augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]
            ),
        )
    )
    model.init_weights()
    return model


def batch(size):
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    samples = [DataSample().set_gt_label(label) for label in (1, 4)]
    return dict(inputs=list(images), data_samples=samples)


@pytest.mark.parametrize('size', [(64, 64), (96, 130), (224, 224)], ids=str)
@pytest.mark.parametrize('name', CONFIGS)
def test_training_step_and_prediction(name, size):
    model = classifier(name).train()
    data = model.data_preprocessor(batch(size), training=True)
    loss = model.loss(**data)['loss']
    assert loss.isfinite()
    loss.backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    with torch.no_grad():
        found = model.eval().val_step(batch(size))
    assert [sample.pred_score.shape for sample in found] == [(CLASSES,)] * 2
    torch.testing.assert_close(found[0].pred_score.sum(), torch.tensor(1.0))


def test_classifier_weights_start_a_segmentation_backbone(tmp_path):
    trained = classifier('aff')
    path = tmp_path / 'classifier.pth'
    torch.save(dict(state_dict=trained.state_dict()), path)
    init_cfg = dict(type='Pretrained', prefix='backbone.', checkpoint=str(path))
    backbone = models.AutoFocusFormer(ARCH, init_cfg=init_cfg)
    backbone.init_weights()
    weights = backbone.state_dict()
    for name, expected in trained.backbone.state_dict().items():
        assert torch.equal(weights[name], expected), name
