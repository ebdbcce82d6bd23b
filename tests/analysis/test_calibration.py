from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmseg_arta import config_path
from mmseg_arta.analysis.calibration import (
    LabelMaps,
    calibrate_caps,
    calibrate_thresholds,
    fit_token_costs,
    required_shares,
)
from mmseg_arta.analysis.flops import count_operations
from mmseg_arta.analysis.flops.count import EvenAllocation
from mmseg_arta.analysis.policy_config import policy_fragment, with_setting, write_fragment
from mmseg_arta.models import ARTA

TINY = dict(
    dims=(64, 32, 32, 16),
    num_heads=(2, 2, 2, 1),
    allocation_depths=(1, 1, 1),
    refinement_depths=(1, 1, 1, 1),
    mlp_ratio=2.0,
)


def brute_force_shares(labels, patch_sizes=(32, 16, 8)):
    """The definition, patch by patch, with loops."""
    height, width = labels.shape
    edge = np.zeros(labels.shape, bool)
    for y in range(height):
        for x in range(width):
            for ny, nx in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= ny < height and 0 <= nx < width:
                    pair = {labels[y, x], labels[ny, nx]}
                    edge[y, x] |= len(pair) == 2 and 255 not in pair
    largest = patch_sizes[0]
    parents = {(y, x) for y in range(-(-height // largest)) for x in range(-(-width // largest))}
    shares = []
    for size in patch_sizes:
        needed = {
            (y, x)
            for y, x in parents
            if edge[y * size : (y + 1) * size, x * size : (x + 1) * size].sum() > 1
        }
        shares.append(len(needed) / len(parents) if parents else math.nan)
        parents = {(2 * y + i, 2 * x + j) for y, x in needed for i in (0, 1) for j in (0, 1)}
    return shares


@pytest.mark.parametrize('size', [(64, 64), (70, 90), (31, 33)])
def test_shares_are_those_of_the_definition(size):
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, 3, (9, 9)), np.ones((12, 12), int))[: size[0], : size[1]]
    labels[5:20, :40] = 255
    found = required_shares(torch.from_numpy(labels))
    assert found == pytest.approx(brute_force_shares(labels))
    assert 0 < found[1] < 1


def test_one_boundary_pixel_is_not_enough():
    labels = torch.zeros(32, 32, dtype=torch.int64)
    labels[0, 0] = 255
    labels[0, 1] = 1  # its neighbours are marked as well
    assert required_shares(labels)[0] == 1
    labels[0, 2] = labels[1, 1] = 255
    assert required_shares(labels)[0] == 0
    assert math.isnan(required_shares(labels)[1])


def test_caps_are_a_percentile_and_a_margin():
    flat = torch.zeros(64, 64, dtype=torch.int64)
    half, busy = flat.clone(), torch.randint(0, 5, (64, 64))
    half[:32, 15] = 1  # both patches of the upper half
    maps = [flat, half, busy]
    expected = np.percentile([0.0, 0.25, 1.0], 40) + 0.1
    assert calibrate_caps(maps, percentile=40, margin=0.1)[0] == pytest.approx(expected)
    assert calibrate_caps(maps) == [1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match=r'cap of round 2 .*\(1 images\)'):
        calibrate_caps([flat])
    with pytest.raises(ValueError, match=r'percentile must be in \[0, 100\], found 101'):
        calibrate_caps(maps, percentile=101)


@pytest.fixture
def label_folder(tmp_path):
    for name in ('images', 'labels'):
        (tmp_path / name).mkdir()
    for index in range(5):
        label = np.zeros((20, 40), np.uint8)
        label[:, index + 4 :] = 1
        cv2.imwrite(str(tmp_path / 'labels' / f'{index}.png'), label)
        (tmp_path / 'images' / f'{index}.jpg').touch()  # never read
    return tmp_path


def dataset(folder, **changes):
    return dict(
        type='BaseSegDataset',
        data_root=str(folder),
        metainfo=dict(classes=('a', 'b'), palette=[[0, 0, 0], [1, 1, 1]]),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')],
        **changes,
    )


def test_label_maps_have_the_size_of_the_test_pipeline(label_folder):
    plain = LabelMaps(dataset(label_folder))
    assert len(plain) == 5
    assert {tuple(labels.shape) for labels in plain} == {(20, 40)}
    resize = [dict(type='Resize', scale=(2048, 60), keep_ratio=True)]
    (labels,) = LabelMaps(dataset(label_folder), resize, limit=1)
    assert labels.shape == (60, 120)
    assert labels[0].tolist() == [0] * 12 + [1] * 108
    doubled = dict(type='ConcatDataset', datasets=[dataset(label_folder)] * 2)
    assert [len(list(LabelMaps(doubled, limit=n))) for n in (None, 3)] == [10, 3]


def test_one_number_is_both_sides_of_a_resized_map(label_folder):
    for scale, shape in ((64, (64, 64)), ((64, 32), (32, 64)), ([64, 32], (32, 64))):
        (labels,) = LabelMaps(dataset(label_folder), [dict(type='Resize', scale=scale)], limit=1)
        assert labels.shape == shape
    step = dict(type='mmseg.Resize', scale_factor=0.5, keep_ratio=True)
    (labels,) = LabelMaps(dataset(label_folder), [step], limit=1)
    assert labels.shape == (10, 20)


@pytest.mark.parametrize(
    ('steps', 'message'),
    [
        ([dict(type='ResizeShortestEdge', scale=64)], 'a step ResizeShortestEdge'),
        ([dict(type='RandomResize', scale=(64, 64))], 'a step RandomResize'),
        ([dict(type='CenterCrop', crop_size=(64, 64))], 'a step CenterCrop'),
        ([dict(type='Resize', scale=8)] * 2, '2 steps Resize'),
        ([dict(type='Resize')], 'Resize.scale_factor .* found None'),
        ([dict(type='Resize', scale=0)], 'Resize.scale .* found 0'),
        ([dict(type='Resize', scale='a')], "Resize.scale .* found 'a'"),
        ([dict(type='Resize', scale=(1, 2, 3))], r'Resize.scale .* found \(1, 2, 3\)'),
        ([dict(type='Resize', scale_factor=(1.0, -2.0))], 'Resize.scale_factor .* -2.0'),
    ],
)
def test_other_ways_to_resize_are_refused(label_folder, steps, message):
    with pytest.raises(ValueError, match=message):
        LabelMaps(dataset(label_folder), steps)


def test_data_set_without_ground_truth(label_folder):
    config = dataset(label_folder)
    config['pipeline'] = config['pipeline'][:1]
    with pytest.raises(ValueError, match='no LoadAnnotations step'):
        LabelMaps(config)


@pytest.fixture(scope='module')
def backbone():
    torch.manual_seed(0)
    model = ARTA(arch=TINY, drop_path_rate=0.0)
    model.init_weights()
    for allocator in model.allocators:  # scores spread well, most of them above zero
        torch.nn.init.normal_(allocator.score.layers[-1].weight, std=0.1)
        torch.nn.init.constant_(allocator.score.layers[-1].bias, 1.0)
    return model


def test_thresholds_meet_a_token_budget(backbone):
    images = torch.randn(3, 1, 3, 96, 128)
    limits = calibrate_thresholds(backbone, lambda: ([image] for image in images), 1e9)
    assert limits.cheapest == 12
    assert limits.dearest == 12 * (1 + 4 + 16 + 64)
    before = backbone.policy
    found = calibrate_thresholds(
        backbone, lambda: ([image] for image in images), 300, start=(0.1, 0.2, 0.3)
    )
    assert 200 < found.cost <= 300
    assert found.thresholds[1] / found.thresholds[0] == pytest.approx(2)
    assert backbone.policy is before
    assert backbone.training
    # The thresholds do what was said.
    backbone.policy = type(before)(found.thresholds)
    with torch.no_grad():
        counts = [sum(map(len, backbone.eval()(image).levels)) for image in images]
    backbone.policy = before
    backbone.train()
    assert sum(counts) / 3 == pytest.approx(found.cost)


def test_budget_too_small(backbone):
    with pytest.raises(ValueError, match=r'budget of 5 is below .* finer token: 12'):
        calibrate_thresholds(backbone, lambda: iter([[torch.randn(1, 3, 96, 128)]]), 5)
    with pytest.raises(ValueError, match=r'must be positive, found \[0.0, 1.0\]'):
        calibrate_thresholds(backbone, lambda: iter([]), 5, start=(0, 1))


@pytest.mark.parametrize('has_policy', [True, False])
def test_fragment_is_a_config(tmp_path, has_policy):
    policy = 'allocation=dict(type="ThresholdAllocation", thresholds=(1, 2, 3))'
    (tmp_path / 'base.py').write_text(
        f'model = dict(backbone=dict(type="DUPS", {policy if has_policy else ""}))'
    )
    target = tmp_path / 'sub' / 'calibrated.py'
    allocation = dict(type='BatchRatioAllocation', caps=(0.85, 0.7, 0.6))
    text = policy_fragment(tmp_path / 'base.py', target, allocation, 'What it is.', has_policy)
    write_fragment(target, text)
    found = Config.fromfile(target)
    assert found.model.to_dict() == dict(backbone=dict(type='DUPS', allocation=allocation))
    assert target.read_text().startswith('# What it is.\n')
    with pytest.raises(FileExistsError, match=r'calibrated\.py exists'):
        write_fragment(target, 'other')
    write_fragment(target, 'x = 1\n', overwrite=True)
    assert [path.name for path in target.parent.iterdir()] == ['calibrated.py']


@pytest.mark.parametrize(
    'policy, setting, expected',
    [
        (
            dict(type='ThresholdAllocation'),
            dict(thresholds=(1,)),
            dict(type='ThresholdAllocation', thresholds=(1,)),
        ),
        (
            dict(train=dict(type='BatchRatioAllocation'), test=dict(type='ThresholdAllocation')),
            dict(caps=(1,)),
            dict(
                train=dict(type='BatchRatioAllocation', caps=(1,)),
                test=dict(type='ThresholdAllocation'),
            ),
        ),
    ],
    ids=['single', 'train-only'],
)
def test_setting_goes_where_the_policy_has_it(policy, setting, expected):
    before = dict(policy)
    assert with_setting(policy, setting) == expected
    assert policy == before


def test_policy_without_the_setting():
    with pytest.raises(ValueError, match='policy ThresholdAllocation has no caps'):
        with_setting(dict(type='ThresholdAllocation'), dict(caps=(1,)))
    parts = dict(train=dict(type='FullAllocation'), test=dict(type='ThresholdAllocation'))
    with pytest.raises(ValueError, match='FullAllocation and ThresholdAllocation has no caps'):
        with_setting(parts, dict(caps=(1,)))


def test_token_costs_predict_other_images(backbone):
    # The backbone alone stands for a model here.
    model = torch.nn.Module()
    model.backbone = backbone
    model.forward = backbone.forward
    policy = backbone.policy
    shapes = ((64, 64), (64, 128), (128, 128), (128, 192))
    costs = fit_token_costs(model, shapes=shapes)
    assert backbone.policy is policy
    backbone.policy = EvenAllocation((0.5, 0.6, 0.7))
    found = count_operations(model, (192, 160), dry=True)
    backbone.policy = policy
    counts = [found.tokens[size] for size in (32, 16, 8, 4)]
    assert costs.total(counts) == pytest.approx(found.macs / 1e9, rel=0.01)
    assert costs.total(counts) >= found.macs / 1e9 * 0.999


def test_fragment_of_a_bundled_config_may_be_moved(tmp_path):
    base = Path(config_path('dups-nano_mask2former_1xb4-2k_camvid-256x256'))
    allocation = dict(type='BatchRatioAllocation', caps=(0.85, 0.7, 0.6))
    text = policy_fragment(base, tmp_path / 'calibrated.py', allocation, 'What it is.')
    (tmp_path / 'far' / 'away').mkdir(parents=True)
    moved = write_fragment(tmp_path / 'far' / 'away' / 'moved.py', text)
    assert str(base.parent) not in text and '..' not in text
    assert Config.fromfile(moved).model.backbone.allocation.to_dict() == allocation
