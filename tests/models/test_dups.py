from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS

from mmseg_arta.models import ARTA, DUPS
from mmseg_arta.models.allocation import BatchRatioAllocation
from tests.builders import NANO

CONFIGS = Path(__file__).parents[2] / 'configs/dups'


@pytest.mark.parametrize(
    'arch, parameters',
    # The small size has two blocks less at 4 px than ARTA's: 2 x 50 252 parameters.
    [('tiny', 29_852_827), ('small', 42_561_531), ('base', 91_595_379)],
)
def test_parameter_counts(arch, parameters):
    with torch.device('meta'):
        model = MODELS.build(dict(type='DUPS', arch=arch, image_hidden='pixels'))
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_depths_at_4_px():
    assert DUPS.archs['small'].refinement_depths == (2, 6, 24, 3)
    assert ARTA.archs['small'].refinement_depths == (4, 6, 24, 3)
    assert DUPS.archs['tiny'] == ARTA.archs['tiny'] and DUPS.archs['base'] == ARTA.archs['base']


def test_same_weights_as_arta_other_default_policy():
    arta, dups = ARTA(NANO, drop_path_rate=0.0), DUPS(NANO, drop_path_rate=0.0)
    dups.load_state_dict(arta.state_dict())
    assert isinstance(dups.policy, BatchRatioAllocation)
    dups.policy = arta.policy
    images = torch.randn(2, 3, 64, 32)
    for one, other in zip(arta(images).levels, dups(images).levels, strict=True):
        assert torch.equal(one.feats, other.feats)


def test_default_policies_are_the_published_ones_of_ade20k():
    policy = DUPS(NANO).policy
    assert policy.thresholds == (0.01, 0.02, 0.04)
    assert policy.caps == (0.85, 0.7, 0.6)
    assert ARTA(NANO).policy.thresholds == (0.005, 0.01, 0.02)


def test_errors_name_the_backbone():
    with pytest.raises(ValueError, match='DUPS needs images'):
        DUPS(NANO)(torch.zeros(1, 1, 32, 32))


@pytest.mark.parametrize('size', ['tiny', 'small', 'base'])
@pytest.mark.parametrize(
    'name, thresholds, caps',
    [
        ('4xb4-90k_cityscapes-1024x1024', (0.005, 0.01, 0.02), (0.5, 0.7, 0.65)),
        ('4xb8-80k_ade20k-512x512', (0.01, 0.02, 0.04), (0.85, 0.7, 0.6)),
        ('4xb8-80k_coco-stuff164k-512x512', (0.01, 0.02, 0.04), (0.7, 0.7, 0.6)),
    ],
    ids=['cityscapes', 'ade20k', 'coco-stuff'],
)
def test_configs_have_the_published_settings(size, name, thresholds, caps):
    backbone = Config.fromfile(CONFIGS / f'dups-{size}_mask2former_{name}.py').model.backbone
    assert backbone.arch == size
    policy = MODELS.build(backbone.allocation.to_dict())
    assert (policy.thresholds, policy.caps, policy.floor) == (thresholds, caps, 0.1)
