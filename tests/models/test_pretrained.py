"""Pre-trained weights are loaded whole, or training does not start."""

from __future__ import annotations

from argparse import ArgumentParser

import pytest
import torch
from mmengine.config import Config, DictAction
from mmseg.registry import MODELS
from torch import nn

from mmseg_arta.models import ARTA, AFFSwin, AutoFocusFormer, EfficientNetLite0, LRFormer
from mmseg_arta.models.backbones.pretrained import is_pretrained, load_pretrained
from tests.option_table import ATM

AFF = dict(dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 4), mlp_ratio=2.0)
MIXED = dict(
    dims=(32, 16, 8, 8), allocation_depths=(1, 1, 1), refinement_depths=(1, 1, 1, 1),
    num_heads=(1, 1, 1, 1),
)  # fmt: skip


class Model(nn.Module):
    """A stem with batch norm, a body, and scores that pre-training does not have."""

    def __init__(self, width=3):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))
        self.body = nn.Linear(width, width)
        self.score = nn.Linear(width, 1)


NEW, UNUSED = (r'score\.',), (r'head\.', r'norm\d\.')


def saved(tmp_path, weights, wrapped=True):
    path = str(tmp_path / 'weights.pth')
    torch.save(dict(state_dict=weights, meta={}) if wrapped else weights, path)
    return dict(type='Pretrained', checkpoint=path)


def below(prefix, weights):
    return {f'{prefix}{key}': value for key, value in weights.items()}


def without(weights, *parts):
    return {k: v for k, v in weights.items() if not any(part in k for part in parts)}


@pytest.mark.parametrize('wrapped', [True, False])
@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_a_whole_file_is_loaded(prefix, wrapped, tmp_path):
    source = Model().state_dict()
    content = below(prefix, source)
    if prefix:
        # Keys elsewhere belong to other parts of the model.
        content |= {'head.fc.weight': torch.zeros(1)}
    init_cfg = saved(tmp_path, content, wrapped) | (dict(prefix=prefix) if prefix else {})
    model = Model()
    load_pretrained(model, init_cfg)
    for key, value in model.state_dict().items():
        assert torch.equal(value, source[key]), key


def test_parts_that_a_file_need_not_hold_keep_their_values(tmp_path):
    source = Model().state_dict()
    init_cfg = saved(tmp_path, without(source, 'score.', 'num_batches_tracked'))
    model = Model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    load_pretrained(model, init_cfg, NEW)
    for key, value in model.state_dict().items():
        kept = 'score' in key or 'tracked' in key
        assert torch.equal(value, (before if kept else source)[key]), key
    with pytest.raises(ValueError, match=r"2 keys missing \['score.bias', 'score.weight'\]"):
        load_pretrained(model, init_cfg)
    # Where it does hold them, they are loaded.
    load_pretrained(model, saved(tmp_path, source), NEW)
    assert torch.equal(model.score.weight, source['score.weight'])


def test_parts_without_a_place_are_left_out(tmp_path):
    extra = {'head.fc.weight': torch.zeros(1), 'norm1.bias': torch.zeros(1)}
    init_cfg = saved(tmp_path, Model().state_dict() | extra)
    load_pretrained(Model(), init_cfg, unused=UNUSED)
    with pytest.raises(ValueError, match=r"1 unexpected \['norm1.bias'\]"):
        load_pretrained(Model(), init_cfg, unused=UNUSED[:1])


def test_weights_are_adapted_before_they_are_compared(tmp_path):
    init_cfg = saved(tmp_path, below('x.', Model(4).state_dict())) | dict(prefix='x.')

    def crop(weights):
        own = Model().state_dict()
        for key, value in weights.items():
            weights[key] = value[tuple(slice(size) for size in own[key].shape)]

    load_pretrained(Model(), init_cfg, adapt=crop)
    with pytest.raises(ValueError, match=r'body.bias: \(4,\) instead of \(3,\)'):
        load_pretrained(Model(), init_cfg)


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda w: without(w, 'body.bias'), r"1 keys missing \['body.bias'\], 0 unexpected"),
        (lambda w: w | {'other': w['body.bias']}, r"0 keys missing \[\], 1 unexpected \['other'\]"),
        (lambda w: w | {'body.bias': torch.zeros(9)}, r'1 of another shape \[.body.bias: \(9,\)'),
        (lambda w: w | {'body.bias': 'text'}, r'body.bias: str instead of \(3,\)'),
        (lambda w: below('backbone.', w), r"; prefix='backbone\.' may be meant"),
        (lambda w: {}, r"Expected 11 keys such as \['stem\.0\.weight'.*found 0 such as \[\]"),
        (lambda w: [w], 'expected weights by key, found list'),
    ],
    ids=['missing', 'extra', 'shape', 'no tensor', 'prefix', 'empty', 'no weights'],
)
def test_a_file_that_does_not_fit_stops_with_the_ways_on(change, message, tmp_path):
    init_cfg = saved(tmp_path, change(Model().state_dict()))
    model = Model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message) as caught:
        load_pretrained(model, init_cfg)
    for part in (init_cfg['checkpoint'], 'does not fit Model', 'convert_checkpoint.py',
                 'model.backbone.init_cfg=None'):  # fmt: skip
        assert part in str(caught.value)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_nothing_fits_even_if_everything_is_optional(tmp_path):
    with pytest.raises(ValueError, match='0 keys missing'):
        load_pretrained(Model(), saved(tmp_path, {'y': torch.zeros(1)}), ('',), ('',))


def test_a_missing_file_stops_with_the_ways_on():
    init_cfg = dict(type='Pretrained', checkpoint='nowhere.pth')
    with pytest.raises(FileNotFoundError, match=r'nowhere\.pth.*Model.*init_cfg=None'):
        load_pretrained(Model(), init_cfg)
    with pytest.raises(FileNotFoundError, match=r'nowhere\.pth.*train it instead'):
        load_pretrained(Model(), init_cfg, ways_on='train it instead')


def test_bad_options_are_named():
    cfg = dict(type='Pretrained', checkpoint='weights.pth')
    with pytest.raises(ValueError, match=r'Model.init_cfg takes checkpoint.*strict'):
        load_pretrained(Model(), cfg | dict(strict=False))
    with pytest.raises(ValueError, match='takes checkpoint'):
        load_pretrained(Model(), dict(type='Pretrained'))
    with pytest.raises(ValueError, match=r"must be of type 'Pretrained', found .*Kaiming"):
        load_pretrained(Model(), dict(type='Kaiming'))
    with pytest.raises(ValueError, match='must stand alone'):
        is_pretrained([dict(type='Kaiming', layer='Conv2d'), cfg])
    assert not is_pretrained([dict(type='Kaiming', layer='Conv2d')]) and not is_pretrained(None)


def test_the_documented_switch_trains_from_scratch():
    init_cfg = dict(type='Pretrained', checkpoint='nowhere.pth')
    config = Config(dict(model=dict(backbone=dict(arch='tiny', init_cfg=init_cfg))))
    parser = ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    args = parser.parse_args(['--cfg-options', 'model.backbone.init_cfg=None'])
    config.merge_from_dict(args.cfg_options)
    LRFormer(**config.model.backbone).init_weights()


def test_features_of_the_policy_network_take_a_classifier(tmp_path):
    source = EfficientNetLite0()
    head = {'conv_head.weight': 0, 'bn2.running_var': 0, 'classifier.bias': 0}
    weights = source.state_dict() | {key: torch.zeros(1) for key in head}
    model = EfficientNetLite0(saved(tmp_path, weights, wrapped=False))
    model.init_weights()
    for key, value in model.state_dict().items():
        assert torch.equal(value, source.state_dict()[key]), key
    del weights['blocks.0.0.bn2.weight']
    with pytest.raises(ValueError, match=r'blocks\.0\.0\.bn2\.weight.*efficientnet_lite0'):
        EfficientNetLite0(saved(tmp_path, weights)).init_weights()


FAMILIES = {
    'aff': (AutoFocusFormer, AFF, ('stages.0.norm', 'stages.1.norm', 'stages.2.norm')),
    'swin': (AFFSwin, AFF, ('norms.0', 'norms.1', 'norms.2')),
    'arta': (ARTA, MIXED, ('.score.',)),
    'arta, published': (ARTA, MIXED, ('.score.', '.image_mlp.')),
}


@pytest.mark.parametrize('name', FAMILIES)
def test_a_classifier_starts_a_segmentation_backbone(name, tmp_path):
    family, arch, absent = FAMILIES[name]
    source = family(arch).state_dict()
    content = below('backbone.', without(source, *absent)) | {'head.fc.weight': torch.zeros(1)}
    init_cfg = saved(tmp_path, content) | dict(prefix='backbone.')
    model = family(arch, init_cfg=init_cfg)
    model.init_weights()
    loaded = [key for key, value in model.state_dict().items() if f'backbone.{key}' in content]
    assert 0 < len(loaded) < len(source)
    for key in loaded:
        assert torch.equal(model.state_dict()[key], source[key]), key
    removed = next(key for key in content if '.mlp.fc1.weight' in key)
    init_cfg = saved(tmp_path, without(content, removed)) | dict(prefix='backbone.')
    with pytest.raises(ValueError, match=r'1 keys missing .*mlp\.fc1\.weight'):
        family(arch, init_cfg=init_cfg).init_weights()


HEADS = {
    'LRHead': dict(in_channels=[8, 8], channels=16, num_classes=3, in_index=[0, 1]),
    'ATMHead': dict(ATM, num_stages=1),
    'HaltingATMHead': ATM,
    'ShrunkATMHead': dict(ATM, num_stages=1, grid=(4, 4)),
    'SparseMask2FormerHead': dict(in_channels=(8, 8), num_classes=3, patch_sizes=(8, 4), dim=16),
    'GroupPolicyHead': dict(in_channels=8),
    'TokensToMaps': dict(in_channels=(8, 8)),
}


@pytest.mark.parametrize('name', HEADS)
def test_weights_of_heads_and_necks_stay_as_loaded(name, tmp_path):
    source = MODELS.build(dict(type=name, **HEADS[name])).state_dict()
    source = {key: torch.rand_like(value.float()) for key, value in source.items()}
    init_cfg = saved(tmp_path, source, wrapped=False)
    model = MODELS.build(dict(type=name, init_cfg=init_cfg, **HEADS[name]))
    model.init_weights()
    for key, value in model.state_dict().items():
        assert torch.equal(value.float(), source[key]) or key.endswith('tracked'), key
