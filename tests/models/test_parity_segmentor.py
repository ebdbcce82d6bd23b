"""The whole path of published weights: converter, config, ``init_model``, outputs."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmseg.apis import init_model

from mmseg_arta.checkpoints.arta import convert_arta_backbone
from tests.helpers import close, load_fixture
from tests.models.test_parity_backbone import compare

CONFIG = """
custom_imports = dict(imports=['mmseg_arta'], allow_failed_imports=False)
default_scope = 'mmseg'
model = dict(
    type='EncoderDecoder',
    backbone=dict(
        type='ARTA',
        image_hidden='pixels',
        arch=dict(
            dims={dims},
            num_heads={num_heads},
            allocation_depths={allocation_depths},
            refinement_depths={refinement_depths},
            mlp_ratio={mlp_ratio},
            layer_scale_init={layer_scale},
            num_neighbor_clusters={num_neighbor_clusters},
        ),
        allocation=dict(
            type='BatchRatioAllocation',
            thresholds={thresholds},
            caps=(1.0, 1.0, 1.0),
            floor={min_ratio},
            inference='batch',
        ),
        tie_order='published',
    ),
    decode_head=dict(
        type='SparseMask2FormerHead',
        in_channels={dims},
        num_classes={num_classes},
        dim={hidden_dim},
        num_queries={num_queries},
        normalize='max',
        cell_position='sine',
        pixel_decoder=dict(num_layers={enc_layers}, num_heads={nheads}, hidden={pixel_ffn}),
        transformer_decoder=dict(num_layers={dec_layers}, num_heads={nheads}, hidden={ffn}),
    ),
    auxiliary_head=dict(type='BoundaryScoreHead'),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
"""


@cache
def fixture(name):
    return load_fixture(f'{name}.pt')


def published_state():
    """A segmentation model's weights as its authors save them."""
    parts = {
        'backbone.': fixture('arta/backbone_local')['state_dict'],
        'sem_seg_head.pixel_decoder.': fixture('mask2former/pixel_decoder')['state_dict'],
        'sem_seg_head.predictor.': fixture('mask2former/transformer_decoder')['state_dict'],
        'criterion.': {'empty_weight': torch.ones(8)},
    }
    return {prefix + key: value for prefix, part in parts.items() for key, value in part.items()}


def write_config(path, num_neighbor_clusters):
    backbone = fixture('arta/backbone_local')['config']
    pixels = fixture('mask2former/pixel_decoder')['config']
    decoder = fixture('mask2former/transformer_decoder')['config']
    path.write_text(
        CONFIG.format(
            dims=tuple(backbone['embed_dim'][:4]),
            allocation_depths=backbone['depths'][:3],
            refinement_depths=backbone['depths'][3:],
            pixel_ffn=pixels['ffn'],
            enc_layers=pixels['enc_layers'],
            num_neighbor_clusters=num_neighbor_clusters,
            **{
                key: backbone[key]
                for key in ('mlp_ratio', 'layer_scale', 'thresholds', 'min_ratio')
            },
            num_heads=backbone['num_heads'][:4],
            **{key: decoder[key] for key in ('num_classes', 'hidden_dim', 'num_queries')},
            **{key: decoder[key] for key in ('dec_layers', 'nheads', 'ffn')},
        )
    )
    return path


@cache
def tool():
    path = Path(__file__).parents[2] / 'tools/model_converters/convert_checkpoint.py'
    spec = importlib.util.spec_from_file_location('tool_convert_checkpoint', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def published_model(tmp_path):
    """Everything a person does to run published weights."""

    def make(num_neighbor_clusters=6):
        source, target = tmp_path / 'published.pth', tmp_path / 'converted.pth'
        config = write_config(tmp_path / 'config.py', num_neighbor_clusters)
        torch.save({'model': published_state(), 'iteration': 80000}, source)
        assert tool().main(['arta', str(source), str(target), '--config', str(config)]) == 0
        return init_model(Config.fromfile(config), str(target), device='cpu')

    return make


def test_backbone_with_gradients(published_model):
    # Every cluster is a neighbour, so no tie decides anything.
    model = published_model(num_neighbor_clusters=10_000)
    assert not model.training
    case = fixture('arta/backbone_global')
    assert (case['image'][0] - case['image'][1]).abs().max() > 1
    compare(model.backbone(case['image']), case['outputs']).backward()
    wanted = convert_arta_backbone(case['outputs']['grad_small'])
    for name, expected in wanted.items():
        scale = float(expected.abs().max()) + 1e-3
        found = model.backbone.get_parameter(name).grad
        torch.testing.assert_close(found / scale, expected / scale, atol=1e-3, rtol=0)


def test_image_to_logits(published_model):
    model = published_model()
    case, decoder = fixture('arta/backbone_local'), fixture('mask2former/transformer_decoder')
    outputs = decoder['outputs']
    tokens = model.extract_feat(case['image'])
    compare(tokens, case['outputs'])
    classes, masks = model.decode_head(tokens)
    for found, maps, expected in zip(classes, masks, (*outputs['aux'], outputs), strict=True):
        close(found, expected['pred_logits'])
        if 'pred_masks' in expected:
            close(maps, expected['pred_masks'])
    scores = model.decode_head.predict(tokens, [{}])
    assert scores.shape == (2, 7, 128, 128) and torch.isfinite(scores).all()


def test_another_config_is_refused(published_model, tmp_path, capsys):
    published_model()
    config = tmp_path / 'config.py'
    config.write_text(config.read_text().replace("'sine'", "'learned'"))
    target = tmp_path / 'refused.pth'
    source = str(tmp_path / 'published.pth')
    assert tool().main(['arta', source, str(target), '--config', str(config)]) == 2
    error = capsys.readouterr().err
    assert 'cell_position' in error and error.count('\n') == 1
    assert not target.exists()
