"""Content-aware token sharing: policy network, targets, merging and unmerging."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmseg_arta.checkpoints.segvit import convert_cts_policy
from mmseg_arta.engine import GroupPolicyMetric
from mmseg_arta.models import GroupPolicyHead, GroupPolicyNet, StepViT, TopGroupMerging
from mmseg_arta.models.decode_heads import group_targets
from mmseg_arta.models.decode_heads.atm import AttentionToMask
from mmseg_arta.models.token_reduction import TokenLayout, embed_supertokens
from tests.helpers import load_fixture

TINY = dict(embed_dims=32, num_layers=3, num_heads=2)


@cache
def fixture(name):
    return load_fixture(f'cts/{name}.pt')


def close(found, expected, tolerance=1e-4):
    scale = float(expected.abs().max()) + 1e-6
    torch.testing.assert_close(found / scale, expected / scale, atol=tolerance, rtol=0)


def published_weights(net):
    """The weights of the published run: a formula of a key's place in the sorted keys."""
    names = {key.replace('decode_head.convs.2.', 'head.'): key for key in net.state_dict()}
    weights = {}
    for number, name in enumerate(sorted(names), 1):
        value = net.state_dict()[names[name]]
        if value.is_floating_point():
            index = torch.arange(value.numel(), dtype=torch.float64)
            wave = torch.sin(index * 12.9898 + number * 78.233) * 0.9
            if name.endswith('running_var'):
                wave = 1 + 0.3 * wave
            elif value.ndim == 1 and name.endswith('.weight'):
                wave = 1 + 0.1 * wave
            elif value.ndim == 1:
                wave = 0.05 * wave
            else:
                wave = wave * (2 / value[0].numel()) ** 0.5
            value = wave.view(value.shape).float()
        weights[name] = value
    return weights


def test_policy_network_is_the_published_one():
    case = fixture('policy_net')
    net = GroupPolicyNet()
    net.load_state_dict(convert_cts_policy(published_weights(net)))
    net.freeze()
    image = case['inputs']['x']
    close(net.decode_head(net.backbone(image), (4, 6))[2], case['outputs']['logits'])
    expected = case['outputs']['logits'].softmax(1)[:, 1]
    close(net.scores(image, (4, 6), 16)[2], expected)


@pytest.mark.parametrize(
    'rule, options',
    [
        ('ade20k', dict(mixed='border')),
        ('no_border_rule', {}),
        ('cityscapes', dict(mixed='different')),
    ],
)
def test_targets_are_the_published_ones(rule, options):
    case = fixture('policy_targets')
    labels = case['inputs']['label'][None].clone()
    if rule == 'ade20k':
        labels[labels == 0] = 255  # as reduce_zero_label does
    found = group_targets(labels, 32, **options)
    assert torch.equal(found[0], case['outputs'][rule].long())


def test_targets_of_mixed_groups():
    labels = torch.zeros(1, 6, 7, dtype=torch.int64)
    labels[0, 0, 0] = 255
    labels[0, 2:4, 2:4] = torch.tensor([[1, 255], [1, 1]])
    labels[0, 4:, 4:6] = 255
    ignored = group_targets(labels, 2, mixed='ignore')[0]
    assert ignored.tolist() == [[255, 1, 1], [1, 255, 1], [1, 1, 1]]
    assert group_targets(labels, 2, mixed='border')[0, 1, 1] == 0
    with pytest.raises(ValueError, match='mixed'):
        group_targets(labels, 2, mixed='none')


def test_merging_and_unmerging_are_the_published_ones():
    case = fixture('merge_unmerge')
    inputs, outputs = case['inputs'], case['outputs']
    scores = inputs['policy_logits'].softmax(1)[:, 1]
    groups, counts = TopGroupMerging(5 / 12)({2: scores})
    assert torch.equal(groups[2], outputs['mask_scale2'])
    layout = TokenLayout.merged(groups, counts, (8, 6), 16, (128, 96))
    assert layout.lengths == (33, 33)
    code = torch.cat((layout.sizes[:, None], layout.places), 1).view(2, 33, 3)
    assert torch.equal(code[..., 0], outputs['code'][..., 0].long())
    assert torch.equal(code, outputs['code'].long())

    identity = torch.nn.Conv2d(3, 768, 16, 16, bias=False)
    identity.weight.data.copy_(torch.eye(768).view(768, 3, 16, 16))
    pixels = embed_supertokens(inputs['images'], layout, identity, torch.zeros(1, 48, 768))
    expected = outputs['patches'].unflatten(3, (33, 16)).permute(0, 3, 1, 2, 4)
    close(pixels.view(2, 33, 3, 16, 16), expected)

    nothing = torch.nn.Conv2d(3, 7, 16, 16, bias=False)
    torch.nn.init.zeros_(nothing.weight)
    positions = inputs['pos_grid'][:1].flatten(2).transpose(1, 2)
    found = embed_supertokens(inputs['images'], layout, nothing, positions)
    close(found.view(2, 33, 7)[0], outputs['pos_tokens'][0, :, 0].T)

    masks = inputs['token_masks'][:, :, 0].transpose(1, 2).flatten(0, 1)
    close(layout.to_cells(masks), outputs['masks_grid'])


@pytest.mark.parametrize(
    'side, count', [(512, 103), (768, 232), (1024, 412)], ids=lambda value: str(value)
)
def test_the_share_of_merged_groups(side, count):
    groups = side // 32
    scores = torch.rand(2, groups, groups)
    chosen, counts = TopGroupMerging()({2: scores})
    assert counts == ((count,),) * 2
    assert chosen[2].flatten(1).sum(1).tolist() == [count, count]
    for found, values in zip(chosen[2], scores, strict=True):
        assert values[found].min() > values[~found].max()


def test_share_of_the_640_px_configs():
    assert TopGroupMerging(0.41)({2: torch.rand(1, 20, 20)})[1] == ((164,),)
    with pytest.raises(ValueError, match='share'):
        TopGroupMerging(1.5)


def test_area_weights_are_unmerging_before_the_head():
    layout = TokenLayout.merged(
        {2: torch.tensor([[[True, False], [False, True]]])}, None, (4, 4), 16, (64, 64)
    )
    layer = AttentionToMask(8, 2)
    tokens, queries = torch.randn(len(layout), 8), torch.randn(1, 3, 8)
    cells = layout.to_cells(tokens).flatten(2).transpose(1, 2).flatten(0, 1)
    for masks in (True, False):
        merged, logits = layer(queries, tokens, layout.lengths, layout.areas().log(), masks)
        whole, expected = layer(queries, cells, (16,), None, masks)
        close(merged, whole)
        if masks:
            close(layout.to_cells(logits).flatten(2), expected.T[None])


def cts(share=103 / 256, init_cfg=None, maps=False, **backbone):
    return MODELS.build(
        dict(
            type='EncoderDecoder',
            backbone=dict(
                type='StepViT', arch=TINY, img_size=64, out_indices=(0, 1, 2), maps=maps,
                merging=dict(type='TopGroupMerging', share=share),
                policy_net=dict(type='GroupPolicyNet', init_cfg=init_cfg),
                **backbone,
            ),
            decode_head=dict(
                type='ATMHead', in_channels=32, channels=16, num_classes=5, num_layers=1,
                num_heads=2, self_attention=False, classes='presence',
            ),
            train_cfg=dict(),
            test_cfg=dict(mode='whole'),
        )
    )  # fmt: skip


def samples(size):
    return [
        SegDataSample(
            gt_sem_seg=PixelData(data=torch.randint(0, 5, (1, *size))),
            metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size),
        )
        for _ in range(2)
    ]


@pytest.mark.parametrize('size', [(64, 128), (70, 101), (17, 31)], ids=str)
@pytest.mark.parametrize('share', [0.0, 0.4, 1.0], ids=['nothing', 'some', 'everything'])
def test_any_size_and_share(size, share):
    model = cts(share).eval()
    rows, cols = (-(-side // 16) for side in size)
    out = model.backbone(torch.randn(2, 3, *size))
    whole = (rows // 2) * (cols // 2)
    assert out.layout.lengths == (rows * cols - 3 * round(share * whole),) * 2
    covered = out.layout.areas().split(out.layout.lengths)
    assert [int(part.sum()) for part in covered] == [rows * cols] * 2
    assert model.decode_head.predict(out, []).shape == (2, 5, *size)
    assert sum(model.loss(torch.randn(2, 3, *size), samples(size)).values()).isfinite()


def test_maps_for_stock_heads():
    model = cts(maps=True).eval()
    found = model.backbone(torch.randn(2, 3, 70, 101))
    assert [tuple(maps.shape) for maps in found] == [(2, 32, 5, 7)] * 3
    assert model.decode_head.predict(found, [dict(img_shape=(70, 101))]).shape[2:] == (70, 101)


def test_policy_is_frozen_and_out_of_the_optimiser():
    model = cts()
    model.train()
    policy = model.backbone.policy_net
    before = {key: value.clone() for key, value in policy.state_dict().items()}
    assert not policy.training and not any(module.training for module in policy.modules())
    optim = build_optim_wrapper(
        model, dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.1))
    )
    of_policy = {value.data_ptr() for value in policy.state_dict().values()}
    held = [p for group in optim.param_groups for p in group['params']]
    assert held and not of_policy & {p.data_ptr() for p in held}
    assert not [name for name, _ in model.named_parameters() if 'policy' in name]
    loss = sum(model.loss(torch.randn(2, 3, 64, 64), samples((64, 64))).values())
    loss.backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    optim.step()
    for key, value in policy.state_dict().items():
        assert torch.equal(value, before[key])


def test_what_merges_does_not_depend_on_autocast():
    torch.manual_seed(0)
    backbone = cts().eval().backbone
    backbone.policy_net.backbone.init_weights()
    # Scores of new weights are nearly equal.
    for conv in backbone.policy_net.decode_head.convs.values():
        conv.weight *= 1e3
    policy, images = backbone.policy_net, torch.randn(2, 3, 256, 256)
    expected = policy.scores(images, (16, 16), 16)[2]
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(policy.scores(images, (16, 16), 16)[2], expected)
        assert policy.scores(images.bfloat16(), (16, 16), 16)[2].dtype == torch.float32
        owner = backbone(images).layout.owner
    assert torch.equal(owner, backbone(images).layout.owner)


def test_policy_checkpoint_loads_from_its_own_training(tmp_path):
    trained = MODELS.build(
        dict(
            type='GroupPolicySegmentor',
            backbone=dict(type='EfficientNetLite0'),
            decode_head=dict(type='GroupPolicyHead'),
        )
    )
    trained.init_weights()
    path = tmp_path / 'policy.pth'
    torch.save(dict(state_dict=trained.state_dict()), path)
    init = dict(type='Pretrained', checkpoint=str(path))
    model = cts(init_cfg=init)
    model.init_weights()
    for key, value in trained.state_dict().items():
        assert torch.equal(model.backbone.policy_net.state_dict()[key], value)


@pytest.mark.parametrize('change', ['missing', 'extra', 'shape', 'file'])
def test_policy_checkpoint_that_does_not_fit(change, tmp_path):
    weights = GroupPolicyNet().state_dict()
    if change == 'missing':
        del weights['backbone.conv_stem.weight']
    elif change == 'extra':
        weights['backbone.other'] = torch.zeros(1)
    elif change == 'shape':
        weights['decode_head.convs.2.bias'] = torch.zeros(3)
    path = tmp_path / 'policy.pth'
    if change != 'file':
        torch.save(weights, path)
    model = cts(init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    kind = FileNotFoundError if change == 'file' else ValueError
    with pytest.raises(kind, match=r'policy\.pth'):
        model.init_weights()


def test_policy_trains_and_predicts():
    model = MODELS.build(
        dict(
            type='GroupPolicySegmentor',
            backbone=dict(type='EfficientNetLite0'),
            decode_head=dict(type='GroupPolicyHead', group_sizes=(2, 4, 8)),
            test_cfg=dict(mode='whole'),
        )
    )
    model.init_weights()
    batch = samples((70, 96))
    losses = model.loss(torch.randn(2, 3, 70, 96), batch)
    # No group of 8x8 patches fits; the others have groups, and everything has a gradient.
    assert losses.keys() == {f'decode.loss_groups_{size}' for size in (2, 4, 8)}
    assert float(losses['decode.loss_groups_8']) == 0 < float(losses['decode.loss_groups_4'])
    sum(losses.values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    model.eval()
    found = model.predict(torch.randn(2, 3, 70, 96), batch)
    shapes = {size: tuple(maps.shape) for size, maps in found[0].group_scores.items()}
    assert shapes == {2: (2, 3), 4: (1, 1), 8: (0, 0)}
    assert tuple(found[0].pred_sem_seg.shape) == (70, 96)
    metric = GroupPolicyMetric()
    metric.process({}, [sample.to_dict() for sample in found])
    result = metric.evaluate(2)
    assert 0 <= result['accuracy_2'] <= 100 and result['accuracy_8'] == 0


def test_policy_metric_counts():
    labels = torch.zeros(1, 64, 64, dtype=torch.int64)
    labels[0, :5, :5] = 1  # the first of four groups is mixed
    labels[0, 32:, 32:] = 255
    sample = dict(
        gt_sem_seg=dict(data=labels),
        group_scores={2: torch.tensor([[0.9, 0.9], [0.1, 0.8]])},
    )
    metric = GroupPolicyMetric()
    metric.process({}, [sample])
    result = metric.evaluate(1)
    assert result['accuracy_2'] == 50 and result['recall_2'] == pytest.approx(200 / 3)
    sample['group_scores'] = {2: torch.zeros(3, 3)}
    with pytest.raises(ValueError, match=r'of 16 px, .* patch_size must be .* before Resize'):
        metric.process({}, [sample])


def test_head_options():
    with pytest.raises(ValueError, match='powers of two'):
        GroupPolicyHead(group_sizes=(3,))
    with pytest.raises(ValueError, match='ascend'):
        GroupPolicyHead(group_sizes=(4, 2))
    with pytest.raises(ValueError, match='2x2 patches of 32 px must be as large as a cell'):
        GroupPolicyHead(group_sizes=(2, 4), patch_size=32)
    with pytest.raises(ValueError, match='group_sizes'):
        StepViT(
            arch=TINY,
            out_indices=(2,),
            merging=dict(type='ThresholdMerging', thresholds={'4': 0.5}),
            policy_net=dict(type='GroupPolicyNet'),
        )
