"""Mask2Former on the dense maps of stock backbones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mmseg_arta.analysis.launches import LaunchCounter
from mmseg_arta.models import SparseMask2FormerHead
from mmseg_arta.models.decode_heads.mask2former import (
    GridPixelDecoder,
    PointPixelDecoder,
    transformer_decoder,
)
from mmseg_arta.models.decode_heads.mask2former.grid_pixel_decoder import (
    GridDeformAttention,
    GridPlaces,
)
from mmseg_arta.models.decode_heads.mask2former.transformer_decoder import attention_mask
from mmseg_arta.structures import MixedTokens
from tests.builders import dense_segmentor, samples
from tests.helpers import grid_tokens, some_tokens

POINT = dict(type='point', mask_tokens='finest', project_same=True)


@pytest.mark.parametrize('pixel_decoder', [dict(type='grid'), POINT], ids=['grid', 'point'])
@pytest.mark.parametrize('size', [(64, 64), (61, 50)], ids=str)
def test_training_step_and_inference(pixel_decoder, size):
    model = dense_segmentor(pixel_decoder).train()
    image = torch.randn(2, 3, *size)
    total, _ = model.parse_losses(model.loss(image, samples(size)))
    total.backward()
    for name, parameter in model.decode_head.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    with torch.no_grad():
        (found, _) = model.eval().predict(image, samples(size))
    assert found.seg_logits.data.shape == (5, *size)


@torch.no_grad()
def test_slide_mode():
    # No multiple of 4: only the window's own size fits what its maps show.
    test_cfg = dict(mode='slide', crop_size=(46, 45), stride=(30, 30))
    model = dense_segmentor(dict(type='grid'), test_cfg).eval()
    (found, _) = model.predict(torch.randn(2, 3, 70, 90), samples((70, 90)))
    assert found.seg_logits.data.shape == (5, 70, 90)


def test_labels_larger_than_the_maps_are_an_error():
    head = dense_segmentor(dict(type='grid')).decode_head
    maps = [torch.randn(1, 8, side, side) for side in (16, 8, 4, 2)]
    with pytest.raises(ValueError, match=r'images are \(80, 64\).*16x16 cells of 4 px'):
        head.loss(maps, samples((80, 64), batch=1))
    with pytest.raises(ValueError, match='names 4 levels, the backbone gives 3 maps'):
        head(maps[:3])


@pytest.mark.parametrize('pixel_decoder', [dict(type='grid'), POINT], ids=['grid', 'point'])
@pytest.mark.parametrize(
    'strides', [(32, 16, 8, 4), (64, 32, 16, 8), (128, 64, 32, 16), (32, 16, 8)], ids=str
)
@torch.no_grad()
def test_queries_attend_where_their_resized_masks_are(pixel_decoder, strides, monkeypatch):
    masks = []

    def keeping(*inputs):
        masks.append(attention_mask(*inputs))
        return masks[-1]

    monkeypatch.setattr(transformer_decoder, 'attention_mask', keeping)
    head = SparseMask2FormerHead(
        [8] * len(strides),
        5,
        strides,
        dim=32,
        num_queries=8,
        cell_position='none',
        pixel_decoder={**pixel_decoder, 'num_layers': 1, 'num_heads': 2, 'hidden': 32},
        transformer_decoder=dict(num_layers=len(strides), num_heads=2, hidden=32),
    ).eval()
    maps = [torch.randn(2, 8, 256 // stride, 384 // stride) for stride in reversed(strides)]
    _, logits = head(maps)
    # The decoder begins anew with the coarsest level.
    turns = (*strides[:-1], strides[0])
    for mask, before, stride in zip(masks, logits[:-1], turns, strict=True):
        size = (256 // stride, 384 // stride)
        expected = F.interpolate(before, size, mode='bilinear').flatten(2) < 0
        # A query that is nowhere inside its mask attends everywhere.
        expected &= ~expected.all(-1, keepdim=True)
        assert torch.equal(mask < 0, expected)


def test_strides_between_places_are_refused():
    with pytest.raises(ValueError, match=r'patch_sizes must be multiples of 4.*\(16, 8, 4, 2\)'):
        SparseMask2FormerHead([8] * 4, 5, (16, 8, 4, 2), pixel_decoder='grid')
    with pytest.raises(ValueError, match=r'coarse to fine, must be multiples of the last.*24, 16'):
        SparseMask2FormerHead([8] * 3, 5, (48, 24, 16), pixel_decoder='grid')


def test_grid_attention_samples_bilinearly():
    """One query at a time, with weights and offsets taken from the layer's own projections."""
    layer = GridDeformAttention(4, 2, 2, 3).double()
    for linear in (layer.offsets, layer.weights):
        torch.nn.init.normal_(linear.weight, std=0.5)
    sizes = ((4, 6), (2, 3))
    centers = torch.rand(30, 2).double()
    x, query = torch.randn(1, 30, 4).double(), torch.randn(1, 30, 4).double()
    places = replace(GridPlaces.of(sizes, centers.device), centers=centers)
    found = layer(query, x, places)
    value = layer.value(x)[0]
    maps = [part.view(*size, 4) for part, size in zip(value.split([24, 6]), sizes, strict=True)]
    offsets = layer.offsets(query)[0].view(30, 2, 2, 3, 2)
    weights = layer.weights(query)[0].view(30, 2, 6).softmax(-1).view(30, 2, 2, 3)
    expected = torch.zeros(30, 4).double()
    for index in (0, 7, 29):
        for head, level, point in torch.cartesian_prod(*map(torch.arange, (2, 2, 3))):
            rows, cols = sizes[level]
            x_at = centers[index, 0] * cols + offsets[index, head, level, point, 0] - 0.5
            y_at = centers[index, 1] * rows + offsets[index, head, level, point, 1] - 0.5
            for row in range(rows):
                for col in range(cols):
                    near = (1 - (x_at - col).abs()).clamp(0) * (1 - (y_at - row).abs()).clamp(0)
                    lanes = slice(int(head) * 2, int(head) * 2 + 2)
                    expected[index, lanes] += (
                        weights[index, head, level, point] * near * maps[level][row, col, lanes]
                    )
        torch.testing.assert_close(found[0, index], layer.proj(expected[index]))


@torch.no_grad()
def test_nothing_is_copied_from_the_host():
    decoder = GridPixelDecoder((4, 4, 3), 32, 32, 2, 2, hidden=8).eval()
    levels = [grid_tokens(2, (2 * side, 3 * side), 16 // side, 4) for side in (1, 2)]
    tokens = MixedTokens((*levels, grid_tokens(2, (8, 12), 4, 3)), (32, 48), (32, 48))
    with LaunchCounter(decoder) as counter:
        decoder(tokens)
    assert counter.total.copied == 0


def test_finest_map_adds_what_is_coarser():
    levels = [grid_tokens(2, (2, 3), 8, 4), grid_tokens(2, (4, 6), 4, 3)]
    decoder = GridPixelDecoder((4, 3), 32, 32, 1, 2, hidden=8)
    out = decoder(MixedTokens(tuple(levels), (16, 24), (16, 24)))
    above = out.memory[0].feats.view(2, 2, 3, 32).permute(0, 3, 1, 2)
    finest = levels[1].feats.view(2, 4, 6, 3).permute(0, 3, 1, 2)
    x = decoder.lateral(finest) + F.interpolate(above, scale_factor=2, mode='bilinear')
    expected = decoder.mask_proj(decoder.out_conv(x)).permute(0, 2, 3, 1).flatten(0, 2)
    torch.testing.assert_close(out.mask_feats, expected)


def test_grid_decoder_needs_all_tokens():
    levels = (grid_tokens(2, (2, 3), 8, 4), some_tokens((24, 7), (4, 6), 4, 3))
    decoder = GridPixelDecoder((4, 3), 32, 32, 1, 2, hidden=8)
    with pytest.raises(
        ValueError, match=r"all 24 tokens .* found 7 of 4 px.*pixel_decoder='point'"
    ):
        decoder(MixedTokens(levels, (16, 24), (16, 24)))
    with pytest.raises(ValueError, match='dim must be a multiple of 32, found 16'):
        GridPixelDecoder((4, 3), 16)


def test_standard_parameter_count():
    # Projections, 6 encoder layers, lateral and 3x3 convolution, mask features; Swin-T's widths.
    with torch.device('meta'):
        head = SparseMask2FormerHead(
            (768, 384, 192, 96), 150, pixel_decoder='grid', cell_position='none'
        )
        point = PointPixelDecoder((768, 384, 192, 96))
    found = sum(p.numel() for p in head.pixel_decoder.parameters())
    layer = 49_344 + 24_672 + 2 * 65_792 + 2 * 512 + 262_144 * 2 + 1024 + 256
    projections = (768 + 384 + 192 + 3) * 256 + 3 * 512
    assert found == projections + 768 + 6 * layer + 96 * 256 + 512 + 589_824 + 512 + 65_792
    assert sum(p.numel() for p in head.transformer_decoder.parameters()) == 14_497_431
    assert found > sum(p.numel() for p in point.parameters())
