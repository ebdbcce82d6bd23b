"""AutoFocusFormer as a whole: sizes, options, other heads behind it."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmseg_arta.analysis.reduced import reduced_model
from mmseg_arta.models import AutoFocusFormer, TokensToMaps
from mmseg_arta.models.decode_heads.mask2former.mask_features import CellTokens, central_cells
from mmseg_arta.structures import Neighborhood
from tests.helpers import raster_order, take

ROOT = Path(__file__).resolve().parents[2]
ABLATIONS = sorted((ROOT / 'configs/aff/ablations').glob('*.py'))
SMALL = dict(dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 4), mlp_ratio=2.0)


def small(**options):
    options = dict(drop_path_rate=0.0) | options
    model = AutoFocusFormer(SMALL, **options)
    model.init_weights()
    return model


@pytest.mark.parametrize(
    'arch, classifier, segmentor',
    [('mini', 6.754, 25.800), ('tiny', 27.020, 45.979), ('small', 42.613, 61.439)],
)
def test_parameters_are_the_published_ones(arch, classifier, segmentor):
    with torch.device('meta'):
        alone = AutoFocusFormer(arch, out_stages=(3,))
        config = Config.fromfile(
            ROOT / f'configs/aff/aff-{arch}_mask2former_4xb8-80k_ade20k-512x512.py'
        )
        whole = MODELS.build(config.model)
    count = sum(p.numel() for p in alone.parameters()) + (alone.out_channels[0] + 1) * 1000
    assert count / 1e6 == pytest.approx(classifier, abs=1e-3)
    count = sum(p.numel() for p in whole.parameters())
    assert count / 1e6 == pytest.approx(segmentor, abs=1e-3)


@pytest.mark.parametrize(
    'rate, counts', [(0.25, (49, 196, 784, 3136)), (0.2, (25, 125, 627, 3136))]
)
def test_token_counts_at_imagenet_size(rate, counts):
    tokens = small(downsample_rate=rate).eval()(torch.randn(2, 3, 224, 224))
    assert [level.lengths for level in tokens.levels] == [(count, count) for count in counts]
    assert [level.patch_size for level in tokens.levels] == [32, 16, 8, 4]
    assert {level.kind for level in tokens.levels} == {'point'}


@pytest.mark.parametrize('size', [(1, 1), (4, 4), (16, 12), (33, 70), (64, 64), (37, 129)], ids=str)
@pytest.mark.parametrize('downsample', ['adaptive', 'grid'])
def test_any_image_size(size, downsample):
    model = small(downsample=downsample)
    tokens = model.train()(torch.randn(2, 3, *size))
    assert tokens.image_size == size
    assert tokens.canvas == tuple(-(-side // 4) * 4 for side in size)
    assert tokens.rounds == ()
    finer = None
    for level in reversed(tokens.levels):
        code = level.batch_index() * 10**6 + level.xy[:, 1] * 1000 + level.xy[:, 0]
        assert (code.diff() > 0).all()  # raster order
        if finer is not None:
            assert set(code.tolist()) <= finer
        finer = set(code.tolist())
    sum(level.feats.sum() for level in tokens.levels).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_an_image_does_not_depend_on_its_batch():
    model = small().eval()
    images = torch.randn(3, 3, 72, 56)
    together = model(images)
    for index in range(3):
        alone = model(images[index : index + 1])
        for many, one in zip(together.levels, alone.levels, strict=True):
            rows = many.batch_index() == index
            assert torch.equal(many.xy[rows], one.xy)
            torch.testing.assert_close(many.feats[rows], one.feats, atol=1e-5, rtol=1e-4)


def test_tie_order_decides_nothing_where_all_attend_to_all():
    model = small(neighborhood_size=10_000).eval()
    images = torch.randn(2, 3, 72, 56)
    ours = model(images)
    for stage in model.stages:
        stage.tie_order = 'published'
    for one, other in zip(ours.levels, model(images).levels, strict=True):
        assert not torch.equal(one.xy, other.xy)
        order = raster_order(other.xy.view(2, -1, 2))
        assert torch.equal(take(other.xy.view(2, -1, 2), order).flatten(0, 1), one.xy)
        found = take(other.feats.unflatten(0, (2, -1)), order).flatten(0, 1)
        torch.testing.assert_close(found, one.feats, atol=1e-4, rtol=1e-4)


def test_clusters_are_freed_with_the_pass():
    model = small().eval()

    def alive():
        return sum(isinstance(found, Neighborhood) for found in gc.get_objects())

    gc.collect()
    gc.disable()  # what only a search for cycles would free counts as alive
    try:
        before = alive()
        model(torch.randn(1, 3, 32, 32))
        assert alive() == before
    finally:
        gc.enable()


def test_reserved_tokens_survive_to_the_last_stage():
    tokens = small().eval()(torch.randn(1, 3, 128, 192))
    places = set(map(tuple, tokens.levels[0].xy.tolist()))
    assert {(x, y) for x in range(0, 48, 16) for y in range(0, 32, 16)} <= places


def test_uniform_images_are_downsampled_like_a_grid():
    # Where importance says nothing, the prior decides.
    model = small(reserve=False, drop_path_rate=0.0).eval()
    for layer in model.downsamples:
        torch.nn.init.zeros_(layer.importance.weight)
    tokens = model(torch.randn(1, 3, 64, 64))
    for level, step in zip(tokens.levels, (8, 4, 2, 1), strict=True):
        assert (level.xy % step == 0).all() and len(level) == (16 // step) ** 2


def test_without_checkpoints_and_with_are_equal():
    image = torch.randn(1, 3, 48, 48)
    model = small().train()
    plain = model(image).levels[0].feats
    for stage in model.stages:
        stage.with_cp = True
    again = model(image).levels[0].feats
    torch.testing.assert_close(again, plain)
    again.sum().backward()


def test_out_stages():
    model = small(out_stages=(1, 3))
    assert model.out_channels == (32, 16)
    assert [level.patch_size for level in model(torch.randn(1, 3, 32, 32)).levels] == [32, 8]
    assert not list(model.stages[0].norm.parameters()) and model.stages[1].norm is not None


def test_point_tokens_look_at_their_own_cell():
    levels = small()(torch.randn(1, 3, 64, 64)).levels
    # Cells of 4 px, and of 8 px behind a model that hands out no finer points.
    for finest, step in ((levels[-1], 1), (levels[-2], 2)):
        cells = central_cells(levels[0], CellTokens.of([finest]))
        x, y = (levels[0].xy // step).long().unbind(1)
        assert torch.equal(cells, (y * (16 // step) + x)[:, None].expand(-1, 4))


def test_maps_take_the_nearest_point():
    model = small().eval()
    neck = TokensToMaps(model.out_channels, kind='point')
    assert not list(neck.parameters())
    tokens = model(torch.randn(2, 3, 64, 96))
    maps = neck(tokens)
    assert [tuple(m.shape[1:]) for m in maps] == [(8, 16, 24), (16, 8, 12), (24, 4, 6), (32, 2, 3)]
    coarse, level = maps[2], tokens.levels[1]
    for y, x in ((0, 0), (3, 4), (2, 1)):
        center = torch.tensor([x * 4 + 1.5, y * 4 + 1.5])
        rows = torch.where(level.batch_index() == 1)[0]
        nearest = rows[(level.xy[rows] - center).square().sum(1).argmin()]
        assert torch.equal(coarse[1, :, y, x], level.feats[nearest])
    with pytest.raises(ValueError, match=r"kind is 'patch', but the backbone gives .* 'point'"):
        TokensToMaps(model.out_channels)(tokens)
    with pytest.raises(ValueError, match="kind must be 'patch' or 'point', found 'dot'"):
        TokensToMaps(model.out_channels, kind='dot')


HEADS = {
    'segformer': dict(type='SegformerHead', in_index=[0, 1, 2, 3]),
    'upernet': dict(type='UPerHead', in_index=[0, 1, 2, 3], pool_scales=(1, 2)),
}


@pytest.mark.parametrize('name', HEADS)
def test_stock_heads_learn_behind_the_neck(name):
    model = MODELS.build(
        dict(
            type='EncoderDecoder',
            backbone=dict(type='AutoFocusFormer', arch=SMALL),
            neck=dict(type='TokensToMaps', in_channels=(32, 24, 16, 8), kind='point'),
            decode_head=dict(
                in_channels=[8, 16, 24, 32],
                channels=16,
                num_classes=5,
                norm_cfg=dict(type='BN'),
                align_corners=False,
                **HEADS[name],
            ),
            test_cfg=dict(mode='whole'),
        )
    )
    labels = torch.randint(0, 5, (2, 1, 50, 70))
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]
    losses = model.loss(torch.randn(2, 3, 50, 70), samples)
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    model.eval()
    logits = model.encode_decode(torch.randn(1, 3, 50, 70), [dict(img_shape=(50, 70))])
    assert logits.shape == (1, 5, 50, 70)


def test_mask2former_predicts_at_the_size_of_the_image():
    config = Config.fromfile(ROOT / 'configs/aff/aff-mini_mask2former_4xb8-80k_ade20k-512x512.py')
    model = MODELS.build(reduced_model(config.model.to_dict()) | dict(data_preprocessor=None))
    model.eval()
    with torch.no_grad():
        scores = model.encode_decode(torch.randn(1, 3, 61, 90), [dict(img_shape=(61, 90))])
    assert scores.shape == (1, 150, 61, 90) and scores.isfinite().all()


def test_ablations_are_those_of_tables_5_and_6():
    base = Config.fromfile(ROOT / 'configs/_base_/models/aff-mini_mask2former.py').model.backbone
    changed = {}
    for path in ABLATIONS:
        backbone = Config.fromfile(path).model.backbone
        name = path.stem.split('_')[0]
        # Table 6 changes alpha for fine-tuning alone.
        start = 'aff-mini' if 'alpha' in name else name
        assert backbone.pop('init_cfg').checkpoint == f'pretrain/{start}_in1k.pth'
        changed[name.removeprefix('aff-mini-')] = {
            key: value for key, value in backbone.items() if base.get(key) != value
        }
    fifth = dict(downsample_rate=0.2)
    assert changed == {
        '1-5-no-grid-prior': fifth | dict(grid_prior='none'),
        '1-5-no-expanded-position': fifth | dict(expanded_position=False),
        '1-5-no-blank-token': fifth | dict(blank_token=False),
        '1-5-no-reserved-tokens': fifth | dict(reserve=False),
        'patch-merging': dict(downsample='grid'),
        'alpha2': dict(alpha=2.0),
        'alpha4': {},
        'alpha6': dict(alpha=6.0),
        'alpha10': dict(alpha=10.0),
        'alpha12': dict(alpha=12.0),
    }


@pytest.mark.parametrize('path', ABLATIONS, ids=lambda path: path.stem.split('_')[0])
def test_ablation_learns(path):
    config = Config.fromfile(path)
    model = reduced_model(config.model.to_dict()) | dict(data_preprocessor=None)
    model = MODELS.build(model)
    model.init_weights()
    labels = torch.randint(0, 19, (2, 1, 8, 8)).repeat_interleave(8, 2).repeat_interleave(8, 3)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]
    losses = model.loss(torch.randn(2, 3, 64, 64), samples)
    total = sum(value for key, value in losses.items() if 'loss' in key)
    assert total.isfinite()
    total.backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(arch='huge'), "arch='huge' is unknown"),
        (dict(arch=dict(dims=(8,) * 4)), r"missing fields \['depths', 'num_heads'\]"),
        (dict(arch=SMALL | dict(width=3)), r"unknown fields \['width'\]"),
        (dict(arch=SMALL | dict(dims=(8, 16))), 'dims must be 4 integers from 1 to'),
        (dict(arch=SMALL | dict(num_heads=(3, 1, 1, 1))), '8 channels and 3 heads'),
        (dict(arch=SMALL | dict(cluster_size=0)), 'cluster_size must be at least 1, found 0'),
        (
            dict(downsample_rate=0.0),
            r'downsample_rate must be a finite number in \(0, 1\], found 0.0',
        ),
        (dict(downsample='pool'), "'adaptive' or 'grid', found 'pool'"),
        (
            dict(neighborhood_size=(48, 48)),
            'neighborhood_size must be an integer from 1 to .*or 4 of them',
        ),
        (
            dict(neighborhood_size=0),
            'neighborhood_size must be an integer from 1 to .*or 4 of them',
        ),
        (dict(out_stages=()), r'out_stages must be ascending integers within 0 to 3, found \(\)'),
        (dict(out_stages=(3, 1)), r'ascending.*found \(3, 1\)'),
        (dict(tie_order='cells'), "tie_order must be 'raster' or 'published', found 'cells'"),
        (dict(grid_prior='max'), "grid_prior must be 'l2', 'l1' or 'none', found 'max'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else '',
)
def test_bad_options_are_named(options, message):
    with torch.device('meta'), pytest.raises(ValueError, match=message):
        AutoFocusFormer(**dict(arch=SMALL) | options)


def test_bad_images_are_named():
    with pytest.raises(ValueError, match=r'found \(1, 3, 0, 8\)'):
        small()(torch.zeros(1, 3, 0, 8))
