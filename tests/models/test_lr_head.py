"""LRHead: parity, whole segmentors, stock backbones."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmseg_arta.checkpoints.lrformer import convert_lr_head, convert_lrformer
from mmseg_arta.models import LRHead
from tests.helpers import load_fixture

ASPECTS = ['square', 'landscape', 'portrait']


def published_head():
    case = load_fixture('lrformer/head.pt')
    config = case['config']
    head = LRHead(config['in_channels'], config['channels'], num_classes=config['num_classes'])
    head.load_state_dict(convert_lr_head(case['state_dict']), strict=True)
    return head.eval(), case


def close(found, expected):
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, atol=1e-4 * scale, rtol=0)


@pytest.mark.parametrize('aspect', ASPECTS)
@torch.no_grad()
def test_published_logits(aspect):
    head, case = published_head()
    # The finest map is not used.
    close(head([None, *case['inputs'][aspect]]), case['outputs'][aspect])


def segmentor(backbone, head, test_cfg=None):
    model = MODELS.build(
        dict(
            type='EncoderDecoder',
            backbone=backbone,
            decode_head=dict(type='LRHead', num_classes=19, **head),
            train_cfg=dict(),
            test_cfg=test_cfg or dict(mode='whole'),
        )
    )
    model.test_cfg = ConfigDict(model.test_cfg)
    return model


@torch.no_grad()
def test_published_segmentor():
    """A checkpoint of both parts goes into the stock segmentor, which computes what they do."""
    parts = {'backbone': 'lrformer/backbone.pt', 'decode_head': 'lrformer/head.pt'}
    cases = {name: load_fixture(path) for name, path in parts.items()}
    shape = cases['backbone']['config']
    arch = dict(dims=shape['embed_dims'], **{k: shape[k] for k in ('depths', 'num_heads')})
    model = segmentor(
        dict(type='LRFormer', arch=arch | dict(mlp_ratios=shape['mlp_ratios'])),
        dict(in_channels=shape['embed_dims'][1:], channels=48),
    ).eval()
    state = {
        f'{name}.{key}': value
        for name, case in cases.items()
        for key, value in case['state_dict'].items()
    }
    model.load_state_dict(convert_lrformer(state), strict=True)
    for aspect in ASPECTS:
        maps = model.extract_feat(cases['backbone']['inputs'][aspect])
        for found, expected in zip(maps[2:], cases['backbone']['outputs'][aspect][2:], strict=True):
            close(found, expected)
        close(
            model.decode_head([None, *cases['decode_head']['inputs'][aspect]]),
            cases['decode_head']['outputs'][aspect],
        )


BACKBONES = {
    'lrformer': dict(
        type='LRFormer',
        arch=dict(dims=(8, 16, 40, 32), depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 4)),
    ),
    'mit': dict(
        type='MixVisionTransformer',
        embed_dims=8,
        num_layers=[1, 1, 1, 1],
        num_heads=[1, 2, 5, 4],
        mlp_ratio=2,
    ),
}


def samples(size):
    meta = dict(img_shape=size, pad_shape=size, ori_shape=size)
    return [
        SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 19, (1, *size))), metainfo=meta)
        for _ in range(2)
    ]


@pytest.mark.parametrize('name', BACKBONES)
@pytest.mark.parametrize('mode', ['whole', 'slide'])
def test_training_and_inference_at_any_size(name, mode):
    size = (70, 45)
    test_cfg = dict(mode=mode, crop_size=(46, 45), stride=(30, 30))
    head = dict(in_channels=[16, 40, 32], channels=32, pooled_size=8)
    model = segmentor(BACKBONES[name], head, test_cfg).train()
    model.init_weights()
    image = torch.randn(2, 3, *size)
    total, _ = model.parse_losses(model.loss(image, samples(size)))
    total.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
    with torch.no_grad():
        (found, _) = model.eval().predict(image, samples(size))
    assert found.seg_logits.data.shape == (19, *size)


def test_initial_weights():
    head = LRHead([64, 64], 64, num_classes=3, in_index=[0, 1])
    head.init_weights()
    assert float(head.block1.attn.kv.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert float(head.conv_seg.weight.detach().std()) == pytest.approx(0.01, rel=0.2)
    assert float(head.block2.scale2.gamma.detach().mean()) == pytest.approx(1e-6)


@pytest.mark.parametrize(
    'channels, dims, millions',
    [
        (256, (96, 240, 384), 13.27 - 11.27),
        (384, (128, 320, 512), 32.22 - 27.86),
        (512, (160, 400, 512), 67.51 - 59.99),
        (640, (192, 480, 640), 110.98 - 99.31),
    ],
)
def test_published_parameters(channels, dims, millions):
    with torch.device('meta'):
        head = LRHead(dims, channels, num_classes=150)
    assert sum(p.numel() for p in head.parameters()) / 1e6 == pytest.approx(millions, abs=0.02)


def test_bad_options():
    with pytest.raises(ValueError, match=r'in_channels must be one or more integers .*found 64'):
        LRHead(64, 64, num_classes=3)
    with pytest.raises(ValueError, match='num_heads must divide the 20 channels, found 8'):
        LRHead([8, 8], 20, num_classes=3, in_index=[0, 1])
    with pytest.raises(TypeError, match='ham_channels'):
        LRHead([8, 8], 16, num_classes=3, in_index=[0, 1], ham_channels=5)
