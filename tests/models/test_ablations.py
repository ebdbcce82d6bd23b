"""Options of the encoder that ablations use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmseg_arta.models import ARTA
from mmseg_arta.models.allocation import ThresholdAllocation
from mmseg_arta.models.layers import (
    ConvNeXtV2Block,
    EncoderLayout,
    GlobalResponseNorm,
    SwinBlock,
    WindowAttention,
)
from tests.builders import NANO, SMALL_HEAD
from tests.models.test_arta import Chequered

STAGE1 = NANO | dict(refinement_depths=(1,))
OPTIONS = [
    *(dict(coarse_block=kind) for kind in ('vit', 'cluster', 'convnextv2', 'swin')),
    dict(coarse_position='none'),
    dict(padding_mode='replicate'),
    dict(mixed_block='msdeform'),
    dict(mixed_block='vit'),
    dict(arch=STAGE1),
    dict(image_hidden='deep'),
    dict(use_image=False),
    dict(use_parent=False),
]


def build(policy=None, **options):
    options = dict(arch=NANO | dict(allocation_depths=(2, 1, 1)), drop_path_rate=0.1) | options
    model = ARTA(allocation=policy or ThresholdAllocation((0.0,) * 3), **options)
    model.init_weights()
    return model


def name_of(options):
    key, value = next(iter(options.items()))
    return 'stage1' if key == 'arch' else f'{key}-{value}'


@pytest.mark.parametrize('threshold', [-1e9, 0.0, 1e9], ids=['all', 'some', 'none'])
@pytest.mark.parametrize('options', OPTIONS, ids=name_of)
def test_every_parameter_learns_from_any_number_of_tokens(options, threshold):
    model = build(ThresholdAllocation((threshold,) * 3), **options)
    tokens = model(torch.randn(2, 3, 40, 72))
    assert [level.patch_size for level in tokens.levels] == [32, 16, 8, 4]
    assert [level.feats.shape[1] for level in tokens.levels] == [32, 32, 16, 16]
    assert all(torch.isfinite(level.feats).all() for level in tokens.levels)
    loss = sum(level.feats.square().sum() for level in tokens.levels)
    (loss + sum(record.scores.square().sum() for record in tokens.rounds)).backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert not missing
    if threshold == -1e9:
        # Some of the rest get a gradient of zero by design, as softmax shifts do.
        blocks = [
            p for n, p in model.named_parameters() if '.blocks.' in n and n.endswith('weight')
        ]
        assert sum(bool(p.grad.any()) for p in blocks) > 0.9 * len(blocks)


@pytest.mark.parametrize('options', OPTIONS, ids=name_of)
def test_an_image_does_not_depend_on_its_batch(options):
    model = build(**options).eval()
    model.policy = Chequered((0.0,) * 3)
    images = torch.randn(2, 3, 64, 96)
    together, alone = model(images), model(images[:1])
    for one, many in zip(alone.levels, together.levels, strict=True):
        torch.testing.assert_close(one.feats, many.feats[: len(one)], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('position', ['sine', 'none'])
def test_places_in_the_image_tell_only_if_asked(position):
    model = build(coarse_position=position).eval()
    # Every patch shows the same; those at the upper and left border see padding.
    image = torch.randn(1, 3, 32, 32).repeat(1, 1, 4, 5)
    inner = model.embed(image).feats.view(4, 5, -1)[1:, 1:].flatten(0, 1)
    same = torch.allclose(inner, inner[:1], atol=1e-5)
    assert same == (position == 'none')


@pytest.mark.parametrize('padding_mode', ['zeros', 'replicate'])
@pytest.mark.parametrize('size', [(50, 70), (1, 3), (64, 33)])
@torch.no_grad()
def test_what_lies_beyond_an_image(size, padding_mode):
    model = build(padding_mode=padding_mode).eval()
    model.policy = Chequered((0.0,) * 3)
    seen = []
    model.patch_embed.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.randn(1, 3, *size)
    tokens = model(image)
    canvas = seen[0]
    rows, columns = (torch.arange(side) for side in canvas.shape[2:])
    expected = image[:, :, rows.clamp(max=size[0] - 1)][..., columns.clamp(max=size[1] - 1)]
    if padding_mode == 'zeros':
        expected = expected * ((rows < size[0])[:, None] & (columns < size[1]))
    assert torch.equal(canvas, expected)
    assert tokens.image_size == size and tokens.canvas == tuple(canvas.shape[2:])


def test_stage_1_hands_out_the_finest_tokens_of_every_round():
    model = build(arch=STAGE1)
    assert len(model.refinement_rounds) == 1
    tokens = model.eval()(torch.randn(1, 3, 64, 64))
    # The coarse tokens left before finer ones could change them.
    model.policy = ThresholdAllocation((1e9,) * 3)
    torch.manual_seed(0)
    image = torch.randn(1, 3, 64, 64)
    few = model(image).levels[0].feats
    model.policy = ThresholdAllocation((-1e9,) * 3)
    assert torch.equal(model(image).levels[0].feats, few)
    assert len(tokens.rounds) == 3


def test_published_sizes_of_stage_1_match_the_baseline():
    root = Path(__file__).parents[2] / 'configs'
    name = 'mask2former_4xb8-80k_ade20k-512x512.py'
    counts = []
    for path in (
        f'arta/arta-tiny_{name}',
        f'arta/ablations/arta-tiny-stage1_{name}',
        f'dups/ablations/dups-tiny-no-unet_{name}',
    ):
        with torch.device('meta'):
            backbone = MODELS.build(Config.fromfile(root / path).model.backbone)
        counts.append(sum(p.numel() for p in backbone.parameters()))
    assert counts[1] == counts[2] == pytest.approx(counts[0], rel=0.005)


def test_window_attention_is_attention_within_windows():
    grid, window = (6, 9), 3
    layer = WindowAttention(8, 2, window, shifted=False)
    x = torch.randn(1, 54, 8, requires_grad=True)
    layer(x, grid)[0, 0].sum().backward()
    reached = x.grad[0].abs().sum(1).view(grid) > 0
    expected = torch.zeros(grid, dtype=torch.bool)
    expected[:3, :3] = True
    assert torch.equal(reached, expected)


@pytest.mark.parametrize('grid', [(7, 9), (8, 10)], ids=['padded', 'other'])
def test_shifted_windows_do_not_wrap_around(grid):
    layer = WindowAttention(8, 2, 3, shifted=True)
    x = torch.randn(1, grid[0] * grid[1], 8, requires_grad=True)
    layer(x, grid)[0, 0].sum().backward()
    reached = x.grad[0].abs().sum(1).view(grid) > 0
    # Windows start one token earlier: the first one holds two rows and columns less one.
    expected = torch.zeros(grid, dtype=torch.bool)
    expected[:1, :1] = True
    assert torch.equal(reached, expected)


def test_window_attention_is_plain_attention_in_one_window():
    layer = WindowAttention(8, 2, window=4, shifted=True)
    x = torch.randn(2, 12, 8)
    heads = layer.qkv(x).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
    place = torch.stack(torch.meshgrid(torch.arange(3), torch.arange(4), indexing='ij'), -1)
    step = place.view(-1, 1, 2) - place.view(1, -1, 2) + 3
    bias = layer.bias[step[..., 0] * 7 + step[..., 1]].permute(2, 0, 1)
    logits = heads[0] @ heads[1].transpose(2, 3) / 2 + bias
    expected = layer.proj((logits.softmax(-1) @ heads[2]).transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(x, (3, 4)), expected)


@pytest.mark.parametrize('kind', [SwinBlock, ConvNeXtV2Block])
def test_grid_blocks_have_right_gradients(kind):
    options = dict(num_heads=2, window=2, shifted=True) if kind is SwinBlock else {}
    block = kind(4, mlp_ratio=1.0, **options).double()
    if kind is ConvNeXtV2Block:
        torch.nn.init.normal_(block.response_norm.gamma)
    x = torch.randn(2, 15, 4, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda x: block(x, (3, 5)), x)


def test_response_norm_beside_channels_without_response():
    layer = GlobalResponseNorm(3)
    torch.nn.init.ones_(layer.gamma)
    x = torch.tensor([[[3.0, 0.0, 1.0], [4.0, 0.0, 0.0]]], requires_grad=True)
    found = layer(x)
    torch.testing.assert_close(found, x * torch.tensor([3.5, 1.0, 1.5]), atol=1e-5, rtol=1e-5)
    (grad,) = torch.autograd.grad(found.sum(), x)
    assert grad.isfinite().all()


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(coarse_block='msdeform'), "coarse_block must be .*found 'msdeform'"),
        (dict(coarse_position='max'), "coarse_position must be .*found 'max'"),
        (dict(padding_mode='reflect'), "padding_mode must be .*found 'reflect'"),
        (dict(mixed_block='swin'), "mixed_block must be .*found 'swin'"),
        (
            dict(arch=NANO | dict(refinement_depths=(1, 1))),
            'refinement_depths must be 4 or 1 integers',
        ),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ARTA(**options)


def oracle_model(rate):
    return MODELS.build(
        dict(
            type='OracleEncoderDecoder',
            backbone=dict(
                type='ARTA',
                arch=NANO,
                allocation=dict(
                    type='OracleAllocation',
                    rate=rate,
                    policy=dict(type='ThresholdAllocation', thresholds=(0.001,) * 3),
                ),
            ),
            decode_head=SMALL_HEAD,
            auxiliary_head=dict(type='BoundaryScoreHead'),
            train_cfg=dict(),
            test_cfg=dict(mode='whole'),
        )
    )


def test_oracle_takes_the_tokens_at_true_boundaries():
    model = oracle_model(1.0)
    model.init_weights()
    seen = []
    model.backbone.register_forward_hook(lambda *call: seen.append(call[-1]))
    labels = torch.zeros(2, 1, 64, 64, dtype=torch.long)
    labels[0, :, :, 40:] = 1  # a boundary between columns 39 and 40; none in the other image
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]
    losses = model.loss(torch.randn(2, 3, 64, 64), samples)
    assert {'aux.loss_boundary_1', 'aux.loss_boundary_3'} <= set(losses)
    tokens = seen[0]
    assert [level.lengths for level in tokens.levels[1:]] == [(8, 0), (16, 0), (64, 0)]
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert all(p.grad is not None for p in model.parameters())

    # At inference scores decide.
    for allocator in model.backbone.allocators:
        torch.nn.init.zeros_(allocator.score.layers[-1].weight)
        torch.nn.init.constant_(allocator.score.layers[-1].bias, 1.0)
    model.eval().encode_decode(torch.randn(2, 3, 64, 64), [dict(img_shape=(64, 64))] * 2)
    assert seen[1].levels[3].lengths == (256, 256)
    with pytest.raises(ValueError, match='without boundary_scores'):
        model.train().encode_decode(torch.randn(2, 3, 64, 64), [dict(img_shape=(64, 64))] * 2)


def test_oracle_maps_are_checked():
    backbone = oracle_model(1.0).backbone
    image = torch.randn(1, 3, 64, 64)
    with pytest.raises(ValueError, match='expected 3, found 1'):
        backbone(image, boundary_scores=[torch.zeros(1, 2, 2)])
    with pytest.raises(ValueError, match=r'maps \(1, rows, columns\)'):
        backbone(image, boundary_scores=[torch.zeros(2, 2, 2)] * 3)


class Late(ThresholdAllocation):
    """Leaves the first coarse token alone in the first round, and splits everything later."""

    def __call__(self, case, round_index, training):
        chosen = torch.ones_like(case.scores, dtype=torch.bool)
        if round_index == 0:
            chosen[case.offsets[:-1].long()] = False
        return chosen


def late_policy():
    return dict(type='ReconsideringAllocation', policy=Late((0.0,) * 3))


def test_a_token_left_once_is_split_later():
    model = build(late_policy(), drop_path_rate=0.0)
    tokens = model(torch.randn(2, 3, 64, 64))
    # Late by a round, its children (16 px) are themselves split in the next one (8 px).
    assert [level.lengths[0] for level in tokens.levels] == [4, 16, 64, 192]
    assert [len(record.scores) // 2 for record in tokens.rounds] == [4, 12, 48, 1, 0, 4]
    sum(level.feats.square().sum() for level in tokens.levels).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_late_tokens_start_from_what_their_parent_was():
    model = build(late_policy(), drop_path_rate=0.0).eval()
    seen = []
    model.allocators[0].embed.register_forward_hook(lambda *call: seen.append(call[1]))
    image = torch.randn(1, 3, 64, 64)
    first = model.allocation_rounds[0]
    layout = EncoderLayout.of(model.clustering((64, 64)), (64, 64))
    (mixed,) = first([model.embed(image)], layout)
    expected = mixed.feats
    model(image)
    torch.testing.assert_close(seen[0][0], expected)
    torch.testing.assert_close(seen[1][0], expected[:1])


def test_reconsidering_changes_nothing_where_nothing_is_left():
    plain, again = (
        build(policy, drop_path_rate=0.0)
        for policy in (
            dict(type='FullAllocation'),
            dict(type='ReconsideringAllocation', policy=dict(type='FullAllocation')),
        )
    )
    again.load_state_dict(plain.state_dict())
    image = torch.randn(2, 3, 64, 40)
    for one, other in zip(plain(image).levels, again(image).levels, strict=True):
        torch.testing.assert_close(one.feats, other.feats)
