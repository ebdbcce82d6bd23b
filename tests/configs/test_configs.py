"""Every bundled config builds, and every trainable parameter of its model learns."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.registry import DATASETS, HOOKS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS, TRANSFORMS
from mmseg.structures import SegDataSample

from mmseg_arta.models import ARTA

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(path.relative_to(ROOT) for path in (ROOT / 'configs').glob('[!_]*/*.py'))
SMALL = dict(
    dims=(64, 32, 32, 16),
    num_heads=(2, 2, 2, 1),
    allocation_depths=(1, 1, 1),
    refinement_depths=(1, 1, 1, 1),
    mlp_ratio=2.0,
)


def load(path):
    return Config.fromfile(ROOT / path)


def shrink(value):
    """The same model at reduced depth and width, without synchronised batch norm."""
    if isinstance(value, dict):
        value = {key: shrink(item) for key, item in value.items()}
        if value.get('type') == 'SyncBN':
            value['type'] = 'BN'
        if value.get('type') == 'ARTA':
            value['arch'] = SMALL
        if value.get('type') == 'TokensToMaps':
            value['in_channels'] = SMALL['dims']
        return value
    return [shrink(item) for item in value] if isinstance(value, (list, tuple)) else value


def small_model(path):
    config = shrink(load(path).model.to_dict())
    if config['backbone']['type'] == 'ARTA':
        head = config['decode_head']
        if head['type'] == 'SparseMask2FormerHead':
            head.update(in_channels=SMALL['dims'], dim=32)
            head['pixel_decoder'].update(num_layers=1, hidden=32)
            head['transformer_decoder'].update(num_layers=3, hidden=32)
        else:
            head.update(in_channels=list(reversed(SMALL['dims'])), channels=32)
    return MODELS.build(config)


def test_there_are_configs_and_their_names_are_unique():
    assert len(CONFIGS) > 5
    assert len({path.name for path in CONFIGS}) == len(CONFIGS)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config_builds(path):
    config = load(path)
    # Ours can be built without memory; some stock backbones cannot.
    sparse = config.model.backbone.type == 'ARTA'
    with torch.device('meta') if sparse else nullcontext():
        model = MODELS.build(config.model)
    if isinstance(model.backbone, ARTA):
        assert model.with_auxiliary_head
    for name in ('train', 'val', 'test'):
        dataset = config[f'{name}_dataloader'].dataset
        kind = DATASETS.get(dataset.type)
        assert kind is not None
        assert len(kind.METAINFO['classes']) == model.decode_head.num_classes
        for step in dataset.pipeline:
            TRANSFORMS.build(step)
    for step in config.tta_pipeline:
        TRANSFORMS.build(step)
    constructor = config.optim_wrapper.get('constructor', 'DefaultOptimWrapperConstructor')
    assert OPTIM_WRAPPER_CONSTRUCTORS.get(constructor) is not None
    for hook in config.get('custom_hooks', []):
        HOOKS.build(hook)
    # The name says what the config does: <model>_<head>_<batch>-<iterations>_<dataset>.
    batch, iterations = path.stem.split('_')[-2].split('-')
    assert config.train_dataloader.batch_size == int(batch.split('xb')[1])
    assert config.train_cfg.max_iters == int(iterations.rstrip('k')) * 1000
    assert config.param_scheduler[-1]['end'] == config.train_cfg.max_iters
    side = int(path.stem.split('x')[-1])
    assert tuple(config.crop_size) == (side, side) == tuple(model.data_preprocessor.size)
    assert config.optim_wrapper.type == 'OptimWrapper'  # mixed precision is the --amp switch


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_parameter_gets_a_gradient(path):
    model = small_model(path)
    model.init_weights()
    labels = torch.randint(0, model.decode_head.num_classes, (2, 1, 8, 8))
    labels = labels.repeat_interleave(8, 2).repeat_interleave(8, 3)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]
    losses = model.loss(torch.randn(2, 3, 64, 64), samples)
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    missing = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
