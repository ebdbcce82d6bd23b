from __future__ import annotations

import pytest
import torch
from mmseg.registry import MODELS

from mmseg_arta.models import SparseMask2FormerHead
from mmseg_arta.structures import TokenMaps
from tests.builders import NANO, SMALL_HEAD, samples, sparse_segmentor


@pytest.mark.parametrize(
    'dims, pixels',
    [((512, 256, 128, 64), 4_907_750), ((768, 384, 192, 96), 5_096_422)],
    ids=['tiny-small', 'base'],
)
def test_published_parameter_counts(dims, pixels):
    def count(module):
        return sum(p.numel() for p in module.parameters())

    with torch.device('meta'):
        head = SparseMask2FormerHead(dims, 150)
        published = SparseMask2FormerHead(dims, 150, cell_position='sine')
    assert count(head.pixel_decoder) == pixels
    assert count(published.transformer_decoder) == 14_497_431
    # 64 + 16 + 4 + 1 learned positions.
    assert count(head.transformer_decoder) == 14_497_431 + 85 * 256
    assert count(head) == count(head.pixel_decoder) + count(head.transformer_decoder)


@pytest.mark.parametrize('size', [(64, 96), (61, 90)], ids=str)
def test_training_step(size):
    model = sparse_segmentor().train()
    losses = model.loss(torch.randn(2, 3, *size), samples(size))
    names = [name for name in losses if name.startswith('decode.')]
    assert len(names) == 3 * 4
    total, _ = model.parse_losses(losses)
    total.backward()
    assert total.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


def test_labels_of_another_size_are_an_error():
    model = sparse_segmentor()
    with pytest.raises(ValueError, match=r'images are \(64, 64\).*labels \(32, 32\)'):
        model.loss(torch.randn(2, 3, 64, 64), samples((32, 32)))


def test_the_canvas_beyond_the_image_has_no_label(monkeypatch):
    model, seen = sparse_segmentor(), []
    data = samples((61, 50))
    for sample in data:
        sample.gt_sem_seg.data.clamp_(min=1)
    monkeypatch.setattr(model.decode_head, 'criterion', lambda *args: seen.append(args) or {})
    model.loss(torch.randn(2, 3, 61, 50), data)
    (_, maps, labels), *_ = seen
    assert maps[0].shape[2:] == (16, 13) and labels.shape == (2, 64, 52)
    assert torch.equal(labels[1, :61, :50], data[1].gt_sem_seg.data[0])
    assert (labels[:, 61:] == 255).all() and (labels[:, :, 50:] == 255).all()


@pytest.mark.parametrize('size', [(64, 64), (61, 50)], ids=str)
@torch.no_grad()
def test_predicts_class_scores_of_the_image(size):
    model = sparse_segmentor().eval()
    image = torch.randn(2, 3, *size)
    tokens = model.extract_feat(image)
    found = model.decode_head.predict(tokens, [{}] * 2)
    class_logits, mask_logits = (x[-1] for x in model.decode_head(tokens))
    assert mask_logits.shape[2:] == (-(-size[0] // 4), -(-size[1] // 4))
    # Nothing of the canvas beyond the image counts, and nothing is stretched.
    full = torch.nn.functional.interpolate(mask_logits, scale_factor=4, mode='bilinear')
    masks = full[..., : size[0], : size[1]].sigmoid()
    expected = torch.zeros_like(found)
    for query in range(8):
        share = class_logits[:, query].softmax(-1)[:, :5]
        expected += share[..., None, None] * masks[:, query, None]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    'test_cfg',
    [dict(mode='whole'), dict(mode='slide', crop_size=(48, 48), stride=(32, 32))],
    ids=['whole', 'slide'],
)
@torch.no_grad()
def test_stock_inference(test_cfg):
    model = sparse_segmentor(test_cfg).eval()
    (first, second) = model.predict(torch.randn(2, 3, 70, 90), samples((70, 90)))
    assert first.seg_logits.data.shape == (5, 70, 90)
    assert second.pred_sem_seg.data.shape == (1, 70, 90)
    assert torch.equal(first.seg_logits.data.argmax(0)[None], first.pred_sem_seg.data)


def test_half_precision_training_step():
    model = sparse_segmentor().train()
    with torch.autocast('cpu', torch.bfloat16):
        losses = model.loss(torch.randn(2, 3, 64, 64), samples((64, 64)))
    assert all(value.dtype == torch.float32 for value in losses.values())
    total, _ = model.parse_losses(losses)
    total.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_a_neck_for_another_head_changes_nothing():
    """A stock auxiliary head needs maps; the tokens they were made from go on."""
    torch.manual_seed(0)
    model = sparse_segmentor().eval()
    image, data = torch.randn(2, 3, 64, 96), samples((64, 96))
    tokens = model.extract_feat(image)
    maps = TokenMaps([level.feats for level in tokens.levels], tokens)
    head = model.decode_head
    assert torch.equal(head.predict(maps, []), head.predict(tokens, []))
    neck = dict(type='TokensToMaps', in_channels=NANO['dims'], out_indices=(1,))
    model.neck = MODELS.build(neck)
    fcn = dict(type='FCNHead', in_channels=NANO['dims'][2], channels=8, in_index=0, num_classes=5)
    model.auxiliary_head = MODELS.build(dict(fcn, num_convs=1))
    losses = model.train().loss(image, data)
    assert {'decode.loss_cls', 'aux.loss_ce'} <= set(losses)
    model.parse_losses(losses)[0].backward()
    assert model.neck.lifts['1'][0].weight.grad.any()


@pytest.mark.parametrize('predicting', [True, False])
def test_maps_of_other_strides_are_refused(predicting):
    """As of a ResNet with dilations, whose last stages have a stride of 8."""
    head = SparseMask2FormerHead((8,) * 4, 5, pixel_decoder='grid', dim=32)
    maps = [torch.zeros(1, 8, side, side) for side in (16, 8, 8, 8)]
    with pytest.raises(ValueError, match=r'images are \(64, 64\).* 8x8 cells of 32 px, 8x8 cells'):
        if predicting:
            head.predict(maps, [dict(img_shape=(64, 64))])
        else:
            head.loss(maps, samples((64, 64))[:1])
    with pytest.raises(ValueError, match=r'images are \(128, 128\).*16x16 cells of 4 px'):
        head.predict(maps, [dict(img_shape=(128, 128))])


def test_bad_options_and_inputs_are_named():
    with pytest.raises(ValueError, match='in_channels names 3 levels, patch_sizes 4'):
        SparseMask2FormerHead((8, 8, 8), 5)
    with pytest.raises(ValueError, match='align_corners: only False'):
        SparseMask2FormerHead((8,) * 4, 5, align_corners=True)
    with pytest.raises(TypeError, match='unexpected keyword'):
        SparseMask2FormerHead((8,) * 4, 5, pixel_decoder=dict(layers=3))
    head = MODELS.build(SMALL_HEAD)
    with pytest.raises(TypeError, match='found dict'):
        head({})
    with pytest.raises(ValueError, match=r"pixel_decoder must be one of \['grid', 'point'\]"):
        SparseMask2FormerHead((8,) * 4, 5, pixel_decoder='dots')
    with pytest.raises(ValueError, match="use pixel_decoder='grid'"):
        head([torch.zeros(1, 8, 8, 8)] * 4)
    model = sparse_segmentor(patch_sizes=(64, 32, 16, 8))
    with pytest.raises(ValueError, match=r'patch_sizes is \(64, .*levels of \(32, 16, 8, 4\)'):
        model.decode_head(model.extract_feat(torch.randn(1, 3, 64, 64)))
