"""SegViT's heads, its loss and its backbones against published code."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmseg_arta.checkpoints.segvit import convert_atm_head, convert_shrunk_head
from mmseg_arta.models import ATMHead, ShrunkATMHead, StepViT
from mmseg_arta.models.token_reduction import ActiveTokens, ReducedTokens, TokenLayout
from tests.helpers import load_fixture

SIZES = dict(in_channels=48, channels=24, num_classes=7, num_layers=2, num_heads=4, dropout=0.0)
NEGATIVE = dict(ignored_pixels='negative')
TINY = dict(embed_dims=32, num_layers=3, num_heads=2)


@cache
def fixture(name):
    return load_fixture(f'segvit/{name}.pt')


def close(found, expected, tolerance=1e-4):
    scale = float(expected.abs().max()) + 1e-6
    torch.testing.assert_close(found / scale, expected / scale, atol=tolerance, rtol=0)


def sampled(scores):
    return scores[..., 1::8, 3::8]


def samples(labels, size=None):
    shape = size or tuple(labels.shape[-2:])
    return [
        SegDataSample(
            gt_sem_seg=PixelData(data=label),
            metainfo=dict(img_shape=shape, ori_shape=shape, pad_shape=shape),
        )
        for label in labels
    ]


def published_head(name, **options):
    case = fixture(name)
    head = ATMHead(**SIZES, loss=NEGATIVE, **options)
    head.load_state_dict(convert_atm_head(case['state_dict']))
    feats = [feat.clone().requires_grad_() for feat in case['inputs']['feats']]
    return case, head.eval(), feats, [f.transpose(1, 2).unflatten(2, (8, 8)) for f in feats]


VERSIONS = pytest.mark.parametrize(
    'name, options',
    [('atm_head', {}), ('atm_head_v2', dict(self_attention=False, classes='presence'))],
    ids=['first', 'second'],
)


@VERSIONS
def test_atm_head_predicts_as_published(name, options):
    case, head, _, maps = published_head(name, **options)
    scores = head.predict(maps, [dict(img_shape=(128, 128))])
    assert scores.shape == (2, 7, 128, 128)
    close(sampled(scores), case['outputs']['scores'])


@VERSIONS
def test_atm_loss_is_the_published_one(name, options):
    case, head, feats, maps = published_head(name, **options)
    losses = head.loss(maps, samples(case['inputs']['label']))
    expected = case['outputs']['losses']
    assert losses.keys() == expected.keys() and len(losses) == 9
    for key, value in losses.items():
        assert float(value) == pytest.approx(float(expected[key]), rel=1e-5)
    if 'grad_feats' in case['outputs']:
        sum(losses.values()).backward()
        for feat, grad in zip(feats, case['outputs']['grad_feats'], strict=True):
            close(feat.grad, grad)
        for key, norm in convert_atm_head(case['outputs']['grad_norms']).items():
            found = float(head.get_parameter(key).grad.norm())
            assert found == pytest.approx(float(norm), rel=1e-3, abs=1e-6)


def test_shrunk_head_is_the_published_one():
    case = fixture('shrunk_head')
    head = ShrunkATMHead(**SIZES, grid=(8, 8), loss=NEGATIVE).eval()
    head.load_state_dict(convert_shrunk_head(case['state_dict']))
    layout = TokenLayout.plain(2, (8, 8), 16, (128, 128), torch.device('cpu'))
    full, shrunk = (feat.flatten(0, 1) for feat in case['inputs']['feats'])
    stages = (
        ActiveTokens(full, None, (64, 64)),
        ActiveTokens(shrunk, torch.arange(32), (16, 16)),
    )
    tokens = ReducedTokens(layout, stages)
    close(sampled(head.predict(tokens, [])), case['outputs']['scores'])
    losses = head.loss(tokens, samples(case['inputs']['label']))
    assert losses.keys() == case['outputs']['losses'].keys()
    for key, value in losses.items():
        assert float(value) == pytest.approx(float(case['outputs']['losses'][key]), rel=1e-5)


def test_backbone_is_the_stock_one_on_a_wide_image():
    case = fixture('vit')
    arch = dict(embed_dims=48, num_layers=2, num_heads=4)
    vit = StepViT(arch=arch, img_size=64, out_indices=(0, 1), maps=True).eval()
    vit.load_state_dict(dict(case['state_dict']))
    found = vit(case['inputs']['x_rect'])
    for maps, expected in zip(found, case['outputs']['outs_rect'], strict=True):
        close(maps, expected)


def test_shrunk_backbone_is_the_published_one():
    case = fixture('vit_shrink')
    arch = dict(embed_dims=48, num_layers=4, num_heads=4)
    vit = StepViT(arch=arch, img_size=64, out_indices=(1, 3), shrink_at=2).eval()
    vit.load_state_dict(dict(case['state_dict']))
    found = vit(case['inputs']['x_96'])
    assert [stage.lengths for stage in found] == [(36,), (9,)]
    for stage, expected in zip(found, case['outputs']['outs_96'], strict=True):
        close(stage.feats, expected.flatten(0, 1))


def segvit(size=64, backbone=None, mode='whole', **head):
    test_cfg = dict(mode=mode, crop_size=(64, 64), stride=(32, 32))
    config = dict(
        type='EncoderDecoder',
        backbone=dict(
            type='StepViT', arch=TINY, img_size=size, out_indices=(0, 1, 2), **(backbone or {})
        ),
        decode_head=dict(
            type='ATMHead', in_channels=32, channels=16, num_classes=5, num_layers=1, num_heads=2,
            **head,
        ),
        train_cfg=dict(),
        test_cfg=test_cfg,
    )  # fmt: skip
    from mmengine.config import ConfigDict

    model = MODELS.build(ConfigDict(config))
    model.init_weights()
    return model


@pytest.mark.parametrize('mode', ['whole', 'slide'])
@pytest.mark.parametrize('size', [(64, 256), (256, 64), (70, 101), (5, 7)], ids=str)
def test_any_image_size(size, mode):
    model = segvit(mode=mode).eval()
    labels = torch.randint(0, 5, (1, 1, *size))
    with torch.no_grad():
        result = model.predict(torch.randn(1, 3, *size), samples(labels))[0]
    assert tuple(result.pred_sem_seg.shape) == size
    scores = result.seg_logits.data
    # Scores that windows average: probabilities, not logits.
    assert scores.shape == (5, *size) and scores.min() >= 0 and scores.max() <= 1


@pytest.mark.parametrize('size', [(64, 256), (70, 101)], ids=str)
def test_shrunk_variant_takes_any_image_size(size):
    model = segvit(backbone=dict(shrink_at=2))
    model.decode_head = ShrunkATMHead(32, 16, 5, (4, 4), num_stages=3, num_layers=1, num_heads=2)
    labels = torch.randint(0, 5, (2, 1, *size))
    rows, cols = (-(-side // 16) for side in size)
    stages = model.backbone(torch.randn(2, 3, *size))
    quarter = -(-rows // 2) * -(-cols // 2)
    assert [stage.lengths[0] for stage in stages] == [rows * cols, rows * cols, quarter]
    total = sum(model.loss(torch.randn(2, 3, *size), samples(labels)).values())
    total.backward()
    assert total.isfinite()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    result = model.eval().predict(torch.randn(2, 3, *size), samples(labels))[1]
    assert tuple(result.pred_sem_seg.shape) == size


def test_wide_images_are_not_reshaped():
    """16 patches of a 4x4 and a 2x8 image have one number, but not one place."""
    vit = segvit().backbone.eval()
    image = torch.randn(1, 3, 32, 128)
    own = vit(image).stages[0].feats
    with torch.no_grad():
        vit.pos_embed[:] = vit.pos_embed.view(1, 4, 4, -1).mean((1, 2), keepdim=True).flatten(1, 2)
    flat = vit(image).stages[0].feats
    # Positions were resized from 4x4 to 2x8: constant ones make a difference.
    assert not torch.allclose(own, flat)
    grid = torch.arange(16.0).view(1, 1, 4, 4)
    wanted = torch.nn.functional.interpolate(grid, (2, 8), mode='bicubic').flatten()
    with torch.no_grad():
        vit.pos_embed[:] = grid.view(1, 16, 1)
    from mmseg_arta.models.layers import resize_positions

    assert torch.allclose(resize_positions(vit.pos_embed, (4, 4), (2, 8))[0, :, 0], wanted)


def test_stock_backbone_serves_too():
    model = segvit()
    model.backbone = MODELS.build(
        dict(
            type='VisionTransformer', img_size=(64, 64), patch_size=16, embed_dims=32,
            num_layers=3, num_heads=2, out_indices=(0, 1, 2), with_cls_token=False,
            norm_cfg=dict(type='LN', eps=1e-6),
        )
    )  # fmt: skip
    ours = segvit().backbone.eval()
    ours.load_state_dict(model.backbone.state_dict())
    image = torch.randn(2, 3, 60, 90)
    model.eval()
    found = model.backbone(image)
    for stage, maps in zip(ours(image), found, strict=True):
        close(stage.feats.unflatten(0, (2, -1)).transpose(1, 2), maps.flatten(2))
    labels = torch.randint(0, 5, (2, 1, 60, 90))
    assert tuple(model.predict(image, samples(labels))[0].pred_sem_seg.shape) == (60, 90)
    assert len(model.loss(image, samples(labels))) == 9


def test_ignored_pixels_take_no_part():
    model = segvit()
    model.eval()
    labels = torch.randint(0, 5, (2, 1, 4, 4)).repeat_interleave(16, 2).repeat_interleave(16, 3)
    labels[:, :, :, 32:] = 255
    maps = [torch.randn(2, 32, 4, 4) for _ in range(3)]
    logits, masks = model.decode_head(maps)
    changed = [mask.clone() for mask in masks]
    for mask in changed:
        mask[..., 3] += 5.0  # reaches pixels from column 40 on
    criterion = model.decode_head.criterion
    before = criterion(logits, masks, labels[:, 0], 16)
    after = criterion(logits, changed, labels[:, 0], 16)
    for key, value in before.items():
        assert float(value) == pytest.approx(float(after[key]), rel=1e-6)
    criterion.ignored_pixels = 'negative'
    assert float(criterion(logits, changed, labels[:, 0], 16)['loss_mask']) != pytest.approx(
        float(criterion(logits, masks, labels[:, 0], 16)['loss_mask'])
    )


@pytest.mark.parametrize('empty', [1, 2], ids=['one image', 'all images'])
def test_ignored_images_train(empty):
    model = segvit()
    labels = torch.randint(0, 5, (2, 1, 64, 64))
    labels[:empty] = 255
    losses = model.loss(torch.randn(2, 3, 64, 64), samples(labels))
    total = sum(losses.values())
    assert total.isfinite()
    total.backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_losses_refuse_what_does_not_fit():
    model = segvit()
    with pytest.raises(ValueError, match='labels'):
        tokens = model.extract_feat(torch.randn(1, 3, 64, 64))
        model.decode_head.loss(tokens, samples(torch.zeros(1, 1, 48, 64).long()))
    with pytest.raises(ValueError, match='label 7'):
        model.loss(torch.randn(1, 3, 64, 64), samples(torch.full((1, 1, 64, 64), 7)))
    with pytest.raises(ValueError, match='3 stages'):
        model.decode_head.predict([torch.randn(1, 32, 4, 4)], [dict(img_shape=(64, 64))])
    with pytest.raises(ValueError, match='in_channels is 32'):
        model.decode_head.predict([torch.randn(1, 8, 4, 4)] * 3, [dict(img_shape=(64, 64))])


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(arch='huge'), 'arch'),
        (dict(arch=dict(embed_dims=8)), 'arch'),
        (dict(arch=TINY, out_indices=(0, 3)), 'out_indices'),
        (dict(arch=TINY, out_indices=(1, 0)), 'out_indices'),
        (dict(arch=TINY, out_indices=(2,), merging=dict(type='TopGroupMerging')), 'policy_net'),
        (dict(arch=TINY, out_indices=(2,), shrink_at=3), 'shrink_at'),
    ],
)
def test_backbone_refuses_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        StepViT(**options)


def test_pretrained_weights_must_be_complete(tmp_path):
    weights = segvit().backbone.state_dict()
    torch.save(weights, tmp_path / 'vit.pth')
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'vit.pth'))
    loaded = segvit(size=96, backbone=dict(init_cfg=init)).backbone
    assert torch.equal(loaded.layers[0].ln1.weight, weights['layers.0.ln1.weight'])
    assert loaded.pos_embed.shape[1] == 36
    biased = segvit(backbone=dict(init_cfg=init, patch_bias=True)).backbone
    assert not biased.patch_embed['projection'].bias.any()
    del weights['layers.1.ln2.bias']
    torch.save(weights, tmp_path / 'vit.pth')
    with pytest.raises(ValueError, match=r'layers\.1\.ln2\.bias'):
        segvit(backbone=dict(init_cfg=init))


@pytest.mark.parametrize('predicting', [True, False])
def test_maps_of_another_stride_are_refused(predicting):
    head = ATMHead(**SIZES, patch_size=16)
    maps = [torch.zeros(1, head.in_channels, 8, 8)] * head.stages
    with pytest.raises(ValueError, match=r'Head: images are \(64, 64\).*8x8 cells of 16 px'):
        if predicting:
            head.predict(maps, [dict(img_shape=(64, 64))])
        else:
            head.loss(maps, samples(torch.zeros(1, 64, 64, dtype=torch.long)))
