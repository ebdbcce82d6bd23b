"""Images of other than three channels: multispectral, depth, grey."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.models import SegDataPreProcessor
from mmseg.registry import MODELS
from torch import nn

from mmseg_arta.models.allocation import SubPatchEmbed
from tests.builders import NANO, SMALL_HEAD, samples

_AFF = dict(dims=(16, 16, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), cluster_size=4)
_VIT = dict(embed_dims=16, num_layers=2, num_heads=2)
_LR = dict(dims=(16, 16, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))
_ALL = dict(type='ThresholdAllocation', thresholds=(0.0, 0.0, 0.0))

BACKBONES: dict[str, dict[str, Any]] = {
    'ARTA': dict(type='ARTA', arch=NANO, allocation=_ALL),
    'ARTA, kernel and pixels': dict(
        type='ARTA', arch=NANO, allocation=_ALL, patch_embed='kernel', image_hidden='pixels'
    ),
    'DUPS': dict(type='DUPS', arch=NANO, allocation=_ALL, image_hidden='deep'),
    'AutoFocusFormer': dict(type='AutoFocusFormer', arch=_AFF),
    'AFFSwin': dict(type='AFFSwin', arch=_AFF),
    'LRFormer': dict(type='LRFormer', arch=_LR, pooled_size=4),
    'StepViT': dict(type='StepViT', arch=_VIT, img_size=64, out_indices=(1,)),
    'EfficientNetLite0': dict(type='EfficientNetLite0'),
}
_MERGING: dict[str, Any] = dict(
    BACKBONES['StepViT'],
    merging=dict(type='ThresholdMerging', thresholds={2: 0.5}),
)


def _policy_net(**backbone: Any) -> dict[str, Any]:
    return dict(
        type='GroupPolicyNet',
        backbone=dict(type='EfficientNetLite0', **backbone),
        head=dict(group_sizes=(2,)),
    )


@pytest.mark.parametrize('channels', [1, 2, 4, 13])
@pytest.mark.parametrize('name', BACKBONES)
def test_every_channel_is_seen_and_learned_from(name: str, channels: int) -> None:
    torch.manual_seed(0)
    model = MODELS.build(dict(BACKBONES[name], in_channels=channels))
    model.init_weights()
    image = torch.randn(2, channels, 64, 96, requires_grad=True)
    _weigh(model(image)).backward()
    assert image.grad is not None
    assert (image.grad.abs().amax((0, 2, 3)) > 0).all()


def _weigh(found: Any) -> torch.Tensor:
    # Layer norms make plain sums constant.
    parts = getattr(found, 'levels', found)
    return sum(getattr(part, 'feats', part).pow(3).sum() for part in parts)


@pytest.mark.parametrize('name', BACKBONES)
def test_three_channels_are_the_default(name: str) -> None:
    plain, named = (
        {key: value.shape for key, value in MODELS.build(config).state_dict().items()}
        for config in (BACKBONES[name], dict(BACKBONES[name], in_channels=3))
    )
    assert plain == named


@pytest.mark.parametrize('value', [0, -1, 2.5, float('nan'), '3', None, True, (3,)])
@pytest.mark.parametrize('name', BACKBONES)
def test_values_that_cannot_be_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(
        ValueError, match=r'in_channels must be (at least 1|an integer from 1 to 65536), found'
    ):
        MODELS.build(dict(BACKBONES[name], in_channels=value))


@pytest.mark.parametrize('name', BACKBONES)
def test_images_of_other_channels_are_refused(name: str) -> None:
    model = MODELS.build(dict(BACKBONES[name], in_channels=4))
    with pytest.raises(ValueError, match=r'\(B, 4, H, W\).*in_channels is 4.*found \(1, 3, 64'):
        model(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize('name', [name for name in BACKBONES if name != 'ARTA, kernel and pixels'])
def test_weights_for_three_channels_are_refused_for_four(name: str, tmp_path: Any) -> None:
    config, path = BACKBONES[name], str(tmp_path / 'three.pth')
    torch.save(MODELS.build(config).state_dict(), path)
    init_cfg = dict(type='Pretrained', checkpoint=path)
    MODELS.build(dict(config, init_cfg=init_cfg)).init_weights()
    model = MODELS.build(dict(config, in_channels=4, init_cfg=init_cfg))
    with pytest.raises(ValueError, match=r'3 channels, and in_channels is 4.*set in_channels=3'):
        model.init_weights()


@pytest.mark.parametrize('hidden', ['dim', 'pixels', 'deep'])
def test_pixels_of_all_channels_reach_new_tokens(hidden: str) -> None:
    torch.manual_seed(0)
    embed = SubPatchEmbed(16, 4, use_parent=False, image_hidden=hidden, in_channels=5)
    image = torch.randn(1, 5, 8, 8, requires_grad=True)
    row = torch.zeros(1, dtype=torch.int64)
    xy = torch.tensor([[1, 0]], dtype=torch.int32)
    embed(torch.zeros(1, 16), image, xy, row, row, row).pow(3).sum().backward()
    assert image.grad is not None
    touched = image.grad[0].abs().sum(0) > 0
    assert touched[:4, 4:].all() and touched.sum() == 16
    assert (image.grad[0, :, :4, 4:].abs().amax((1, 2)) > 0).all()


def test_the_policy_network_sees_the_same_channels() -> None:
    config = dict(_MERGING, in_channels=4)
    with pytest.raises(ValueError, match=r'in_channels is 4.*takes 3: set policy_net.backbone'):
        MODELS.build(dict(config, policy_net=_policy_net()))
    model = MODELS.build(dict(config, policy_net=_policy_net(in_channels=4))).eval()
    tokens = model(torch.randn(1, 4, 64, 64))
    assert tokens.stages[0].feats.shape[0] == sum(tokens.layout.lengths)


@pytest.mark.parametrize('channels', [1, 4])
def test_a_segmentor_trains_and_tests_behind_the_stock_preprocessor(channels: int) -> None:
    torch.manual_seed(0)
    model = _segmentor(channels)
    images = [torch.randint(0, 255, (channels, 64, 64), dtype=torch.uint8) for _ in range(2)]
    data = model.data_preprocessor(dict(inputs=images, data_samples=samples((64, 64))), True)
    expected = (images[0].float() - 100) / 50
    torch.testing.assert_close(data['inputs'][0], expected)
    losses = model(**data, mode='loss')
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    out = model.test_step(dict(inputs=images, data_samples=samples((64, 64))))
    assert out[0].pred_sem_seg.data.shape == (1, 64, 64)


def _segmentor(channels: int) -> nn.Module:
    model = MODELS.build(
        dict(
            type='EncoderDecoder',
            data_preprocessor=dict(
                type=SegDataPreProcessor,
                # The stock preprocessor takes 3 values, or one for all channels.
                mean=[100.0],
                std=[50.0],
                size=(64, 64),
                test_cfg=dict(size_divisor=32),
            ),
            backbone=dict(BACKBONES['ARTA'], in_channels=channels),
            decode_head=SMALL_HEAD,
            auxiliary_head=dict(type='BoundaryScoreHead'),
            train_cfg=dict(),
            test_cfg=ConfigDict(mode='whole'),
        )
    )
    model.init_weights()
    return model
