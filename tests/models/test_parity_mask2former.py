"""The point pixel decoder, the transformer decoder and the loss against published code."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from mmseg_arta.checkpoints import rename_keys
from mmseg_arta.checkpoints.mask2former import convert_pixel_decoder, convert_transformer_decoder
from mmseg_arta.models.decode_heads.mask2former import (
    MaskedTransformerDecoder,
    PixelDecoderOutput,
    PointPixelDecoder,
)
from mmseg_arta.models.layers import PointDeformAttention, token_places
from mmseg_arta.models.losses import ClassMasks, SetCriterion
from mmseg_arta.structures import MixedTokens, TokenSet, offsets_from_lengths
from tests.helpers import close, load_fixture

NAMES = ('res5', 'res4', 'res3', 'res2')
SIZES = (32, 16, 8, 4)


@cache
def fixture(name):
    return load_fixture(f'mask2former/{name}.pt')


def token_set(feats, places, patch_size, canvas, kind='patch'):
    """``feats (B, N, C)`` at ``places (B, N, 2)``, in the order given."""
    batch, count, _ = feats.shape
    lengths = (count,) * batch
    return TokenSet(
        feats.flatten(0, 1).clone().requires_grad_(),
        places.flatten(0, 1).int(),
        offsets_from_lengths(lengths, feats.device),
        lengths,
        patch_size,
        (canvas[0] // patch_size, canvas[1] // patch_size),
        kind,
    )


def test_deform_attention_with_gradients():
    case = fixture('aff_deform_attention')
    config, inputs, outputs = case['config'], case['inputs'], case['outputs']
    grid = tuple(config['spatial_shapes'][0])
    canvas = (grid[0] * 4, grid[1] * 4)
    levels = [
        token_set(value, places, 4, canvas, 'point')
        for value, places in zip(inputs['values'], inputs['poss'], strict=True)
    ]
    places = token_places(levels, canvas)
    layer = PointDeformAttention(
        config['d_model'], config['n_heads'], config['n_levels'], config['n_points'], floor=0.0,
        eps=config['eps'],
    )  # fmt: skip
    rules = [
        ('shepard_power', 'power'),
        (r'sampling_offsets\.(\w+)', r'offsets.\1'),
        (r'attention_weights\.(\w+)', r'weights.\1'),
        (r'value_proj\.(\w+)', r'value.\1'),
        (r'output_proj\.(\w+)', r'proj.\1'),
    ]
    layer.load_state_dict(rename_keys(case['state_dict'], rules))

    def packed(rows):
        return torch.cat([level.flatten(0, 1) for level in rows])

    query = packed(inputs['queries']).requires_grad_()
    value = packed(inputs['values']).requires_grad_()
    out = layer(query, value, places)
    close(out, packed(outputs['out']))
    (out * packed(inputs['grad_out'])).sum().backward()
    close(query.grad, packed(outputs['d_queries']))
    close(value.grad, packed(outputs['d_values']))
    for name, expected in rename_keys(outputs['d_params'], rules).items():
        close(layer.get_parameter(name).grad, expected, 1e-3)


def pixel_decoder(name, **options):
    case = fixture(name)
    features = case['inputs'].get('features', case['inputs'])
    kind, sizes, canvas = ('patch', SIZES, (128, 128))
    if name.startswith('aff'):
        kind, sizes, canvas = ('point', (4,) * 4, (96, 128))
    levels = tuple(
        token_set(features[level], features[f'{level}_pos'], size, canvas, kind)
        for level, size in zip(NAMES, sizes, strict=True)
    )
    config = case['config']
    decoder = PointPixelDecoder(
        [level.feats.shape[1] for level in levels],
        config['conv_dim'],
        config['mask_dim'],
        config['enc_layers'],
        config['nheads'],
        hidden=config['ffn'],
        normalize='max',
        **options,
    )
    decoder.load_state_dict(convert_pixel_decoder(case['state_dict']))
    return case, decoder, levels, decoder(MixedTokens(levels, canvas, canvas))


def test_pixel_decoder_with_gradients():
    case, decoder, levels, out = pixel_decoder('pixel_decoder')
    outputs = case['outputs']
    found = (*out.memory, out.mask_levels[-1])
    for level, expected in zip(found, outputs['multi_scale'], strict=True):
        close(level.feats.view_as(expected), expected)
    parts = out.mask_feats.split([len(level) for level in levels])
    mask_feats = torch.cat([part.unflatten(0, (2, -1)) for part in parts], 1)
    close(mask_feats, outputs['mask_features'])

    (mask_feats * case['inputs']['cotangent_mask_features']).sum().backward()
    for level, name in zip(levels, NAMES, strict=True):
        expected = outputs['grad_inputs'][name]
        close(level.feats.grad.view_as(expected), expected)
    for name, expected in convert_pixel_decoder(outputs['grads']).items():
        close(decoder.get_parameter(name).grad, expected, 1e-3)


def test_pixel_decoder_of_aff():
    options = dict(mask_tokens='finest', project_same=True, floor=0.0, eps=1e-11)
    case, _, _, out = pixel_decoder('aff_pixel_decoder', **options)
    for level, expected in zip(out.memory, case['outputs']['multi_scale'], strict=True):
        close(level.feats.view_as(expected), expected)
    close(
        out.mask_feats.view_as(case['outputs']['mask_features']), case['outputs']['mask_features']
    )


def test_transformer_decoder_with_gradients():
    case, pixels = fixture('transformer_decoder'), fixture('pixel_decoder')['outputs']
    config, inputs, outputs = case['config'], case['inputs'], case['outputs']
    levels = tuple(
        token_set(feats, places, size, (128, 128))
        for feats, places, size in zip(pixels['multi_scale'], pixels['poss'], SIZES, strict=True)
    )
    given = pixels['mask_features'].clone().requires_grad_()
    parts = given.split([level.lengths[0] for level in levels], 1)
    mask_feats = torch.cat([part.flatten(0, 1) for part in parts])
    decoder = MaskedTransformerDecoder(
        config['num_classes'],
        config['hidden_dim'],
        config['mask_dim'],
        config['num_queries'],
        config['dec_layers'],
        config['nheads'],
        config['ffn'],
        cell_position='sine',
        normalize='max',
    )
    decoder.load_state_dict(convert_transformer_decoder(case['state_dict']))
    size = (128, 128)
    out = decoder(PixelDecoderOutput(levels[:3], levels, mask_feats, size, size))

    for index, expected in enumerate((*outputs['aux'], outputs)):
        close(out.class_logits[index], expected['pred_logits'])
        if 'pred_masks' in expected:
            close(out.mask_logits(index), expected['pred_masks'])
    loss = (out.class_logits[-1] * inputs['cotangent_logits']).sum()
    (loss + (out.mask_logits() * inputs['cotangent_masks']).sum()).backward()
    close(given.grad, outputs['grad_mask_features'])
    for level, expected in zip(levels[:3], outputs['grad_levels'], strict=True):
        close(level.feats.grad.view_as(expected), expected)
    for name, expected in convert_transformer_decoder(outputs['grads']).items():
        close(decoder.get_parameter(name).grad, expected)


def test_criterion_with_gradients():
    case = fixture('criterion')
    preds, outputs = case['inputs']['preds'], case['outputs']
    labels = case['inputs']['label_maps']
    class_logits = [pred['pred_logits'].clone().requires_grad_() for pred in preds]
    mask_logits = [pred['pred_masks'].clone().requires_grad_() for pred in preds]
    criterion = SetCriterion(case['config']['num_classes'])

    matches = criterion.matcher(class_logits, mask_logits, ClassMasks.of(labels, 7))
    for number, images in enumerate(outputs['matcher_indices']):
        for image, (query, target) in enumerate(images):
            found = matches.query[number, matches.image == image]
            assert torch.equal(found[target], query)

    losses = criterion(class_logits, mask_logits, labels)
    weights = {'ce': 2.0, 'mask': 5.0, 'dice': 5.0}
    assert len(losses) == len(outputs['losses']) == 9
    for name, expected in outputs['losses'].items():
        _, kind, *number = name.split('_')
        ours = 'loss_cls' if kind == 'ce' else f'loss_{kind}'
        ours = f'd{number[0]}.{ours}' if number else ours
        assert float(losses[ours].detach()) / weights[kind] == pytest.approx(expected, rel=1e-5)
    sum(losses.values()).backward()
    close(class_logits[-1].grad, outputs['grads']['pred_logits'])
    close(mask_logits[-1].grad, outputs['grads']['pred_masks'])
    close(class_logits[0].grad, outputs['grads']['aux0_logits'])
