"""What the bundled configs of LRFormer train with: the paper's, not the small one for CamVid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmseg.registry import MODELS
from torch import nn

ROOT = Path(__file__).parents[2] / 'configs/lrformer'
CONFIGS = sorted(path for path in ROOT.glob('*.py') if 'camvid' not in path.stem)
ADE20K = ROOT / 'lrformer-t_lrhead_4xb4-160k_ade20k-512x512.py'
ARCHS = dict(t='tiny', s='small', b='base', l='large', xl='xlarge')


def test_parameter_groups():
    config = Config.fromfile(ADE20K)
    with torch.device('meta'):
        model = MODELS.build(config.model)
    config.optim_wrapper.optimizer.foreach = False
    groups = build_optim_wrapper(model, config.optim_wrapper).param_groups
    found = {
        id(p): (group['lr'], group['weight_decay']) for group in groups for p in group['params']
    }
    norms = {
        id(p)
        for module in model.modules()
        if isinstance(module, (nn.LayerNorm, nn.modules.batchnorm._BatchNorm))
        for p in module.parameters(recurse=False)
    }
    for name, parameter in model.named_parameters():
        rate = 6e-4 if name.startswith('decode_head') else 6e-5
        decay = 0.0 if id(parameter) in norms else 0.01
        assert found[id(parameter)] == pytest.approx((rate, decay)), name


def test_learning_rate_over_time():
    config = Config.fromfile(ADE20K)
    warm_up, decay = config.param_scheduler
    assert (warm_up.type, warm_up.start_factor, warm_up.end) == ('LinearLR', 1e-6, 1500)
    assert (decay.type, decay.power, decay.begin, decay.end) == ('PolyLR', 1.0, 1500, 160000)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_backbone_and_batch(path):
    config = Config.fromfile(path)
    backbone = config.model.backbone
    gpus, images = map(int, re.search(r'_(\d+)xb(\d+)-', path.stem).groups())
    assert gpus * images == (8 if 'cityscapes' in path.stem else 16)
    if backbone.type == 'LRFormer':
        size = path.stem.split('_')[0].split('-')[1]
        assert backbone.arch == ARCHS[size]
        # ImageNet weights of this size, of the kind that the name says.
        kind = 'in22k' if 'in22k' in path.stem else 'in1k'
        checkpoint = backbone.init_cfg.checkpoint
        assert re.fullmatch(rf'pretrain/lrformer-{size}(-no-[a-z-]+)?_{kind}\.pth', checkpoint)
        assert backbone.init_cfg.prefix == 'backbone.'
    test = next(s for s in config.test_pipeline if s['type'] == 'Resize')
    side = config.crop_size[0]
    assert min(test['scale']) == side
    if 'mask2former-recipe' in path.stem:
        step = next(s for s in config.train_pipeline if s['type'] == 'RandomChoiceResize')
        assert step['scales'] == [int(side * tenths * 0.1) for tenths in range(5, 21)]
        assert config.model.data_preprocessor.test_cfg == dict(size_divisor=32)
    else:
        step = next(s for s in config.train_pipeline if s['type'] == 'RandomResize')
        assert step['ratio_range'] == (0.5, 2.0) and step['scale'] == test['scale']
    assert config.train_dataloader.dataset.pipeline == config.train_pipeline
    assert config.test_dataloader.dataset.pipeline == config.test_pipeline
