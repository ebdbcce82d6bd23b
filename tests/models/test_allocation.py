from __future__ import annotations

import pytest
import torch
from mmseg.registry import MODELS

from mmseg_arta.models.allocation import (
    BatchRatioAllocation,
    Candidates,
    ThresholdAllocation,
    TokenAllocator,
    segment_counts,
    segment_softmax,
    segment_top,
    split_selected,
)
from mmseg_arta.structures import TokenSet, batch_index, offsets_from_lengths

RAGGED = [(5, 3), (0, 4), (1,), (4, 0, 0, 7)]


def candidates(scores, lengths):
    offsets = offsets_from_lengths(lengths, torch.device('cpu'))
    return Candidates(torch.tensor(scores), batch_index(offsets, sum(lengths)), offsets, lengths)


@pytest.mark.parametrize('lengths', RAGGED, ids=str)
def test_segments_match_a_loop_over_images(lengths):
    values = torch.randn(sum(lengths), dtype=torch.float64)
    offsets = offsets_from_lengths(lengths, values.device)
    batch = batch_index(offsets, sum(lengths))
    mask = values > 0
    parts = values.split(lengths)
    assert segment_counts(mask, offsets).tolist() == [int((part > 0).sum()) for part in parts]
    expected = torch.cat([part.softmax(0) for part in parts])
    torch.testing.assert_close(segment_softmax(values, batch, len(lengths)), expected)
    wanted = torch.tensor([min(2, n) for n in lengths])
    top = segment_top(values, batch, offsets, wanted)
    for part, chosen, count in zip(parts, top.split(lengths), wanted.tolist(), strict=True):
        expected = torch.zeros_like(chosen)
        expected[part.argsort(descending=True)[:count]] = True
        assert torch.equal(chosen, expected)


def test_segment_softmax_gradients():
    values = torch.randn(6, dtype=torch.float64, requires_grad=True)
    batch = torch.tensor([0, 0, 0, 2, 2, 3])
    torch.autograd.gradcheck(lambda v: segment_softmax(v, batch, 4), values)


def test_equal_scores_go_to_the_earlier_row():
    offsets = torch.tensor([0, 4, 6], dtype=torch.int32)
    top = segment_top(torch.ones(6), batch_index(offsets, 6), offsets, torch.tensor([2, 1]))
    assert top.tolist() == [True, True, False, False, True, False]


def test_threshold_is_exclusive_and_per_round():
    policy = ThresholdAllocation((0.1, 0.5, 0.9))
    case = candidates([0.1, 0.2, 0.6, 0.95], (4,))
    assert policy(case, 0, True).tolist() == [False, True, True, True]
    assert policy(case, 1, False).tolist() == [False, False, True, True]
    assert policy(case, 2, False).tolist() == [False, False, False, True]


SCORES = [
    0.9,
    0.8,
    0.0,
    0.0,
    0.0,
    0.0,
    0.0,
    0.0,
    0.0,
    0.0,  # 20 % above
    0.9,
    0.8,
    0.7,
    0.6,
    0.5,
    0.0,
    0.0,
    0.0,
    0.0,
    0.0,
]  # 50 % above


@pytest.mark.parametrize(
    'caps, floor, counts',
    [
        ((1.0,), 0.1, [5, 5]),  # the batch's largest share
        ((0.3,), 0.1, [3, 3]),  # capped
        ((1.0,), 0.7, [7, 7]),  # raised to the floor
        ((0.3,), 0.7, [3, 3]),  # DUPS eq. 2: the cap comes last
    ],
    ids=['largest', 'cap', 'floor', 'cap-over-floor'],
)
def test_batch_ratio_in_training(caps, floor, counts):
    policy = BatchRatioAllocation((0.1,), caps, floor)
    case = candidates(SCORES, (10, 10))
    selected = policy(case, 0, True)
    assert [int(part.sum()) for part in selected.split(10)] == counts
    assert selected[0] and selected[1]  # the highest scores first


def test_batch_ratio_at_inference():
    case = candidates(SCORES, (10, 10))
    own = BatchRatioAllocation((0.1,), (0.3,), 0.4)(case, 0, False)
    assert [int(part.sum()) for part in own.split(10)] == [2, 5]
    common = BatchRatioAllocation((0.1,), (0.3,), 0.4, inference='batch')(case, 0, False)
    assert [int(part.sum()) for part in common.split(10)] == [5, 5]
    nothing = candidates([0.0] * 20, (10, 10))
    assert not BatchRatioAllocation((0.1,), (1.0,), 0.1)(nothing, 0, False).any()
    floor = BatchRatioAllocation((0.1,), (1.0,), 0.1, inference='batch')(nothing, 0, False)
    assert int(floor.sum()) == 2


@pytest.mark.parametrize('tokens, lost', [(352, 15), (868, 28), (1024, 0)])
def test_batch_inference_rounds_like_the_published_code(tokens, lost):
    policy = BatchRatioAllocation((0.5,), (1.0,), 0.0, inference='batch')
    missing = 0
    for count in range(1, tokens + 1):
        scores = [1.0] * count + [0.0] * (tokens - count)
        missing += count - int(policy(candidates(scores, (tokens,)), 0, False).sum())
    assert missing == lost


@pytest.mark.parametrize(
    'config, message',
    [
        (dict(type='ThresholdAllocation', thresholds=(0.1, 0.2)), 'expected 3, found 2'),
        (dict(type='BatchRatioAllocation', caps=(0.5,)), 'expected 3, found 1'),
        (dict(type='BatchRatioAllocation', caps=(0.5, 2.0, 0.5)), 'shares in'),
        (dict(type='BatchRatioAllocation', inference='mine'), "'image' or 'batch', found 'mine'"),
    ],
)
def test_bad_policies_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(type='ARTA', allocation=config))


def test_something_else_than_a_policy_is_refused():
    with pytest.raises(ValueError, match='found ConvPatchEmbed'):
        from mmseg_arta.models.layers import ConvPatchEmbed

        MODELS.build(dict(type='ARTA', allocation=ConvPatchEmbed(32)))


def test_children_are_in_raster_order_with_their_parents():
    # 16 px tokens of a 64x32 px canvas at both ends of the first row, one below, two images.
    xy = torch.tensor([[0, 0], [4, 0], [0, 4], [4, 4], [0, 0], [4, 4]], dtype=torch.int32)
    batch = torch.tensor([0, 0, 0, 0, 1, 1])
    selected = torch.tensor([True, True, False, True, False, True])
    corners = torch.tensor([[0, 0], [2, 0], [0, 2], [2, 2]], dtype=torch.int32)
    places, image, parent, corner = split_selected(selected, 4, xy, batch, corners, 8)
    assert places.tolist() == [
        [0, 0],
        [2, 0],
        [4, 0],
        [6, 0],
        [0, 2],
        [2, 2],
        [4, 2],
        [6, 2],
        [4, 4],
        [6, 4],
        [4, 6],
        [6, 6],
        [4, 4],
        [6, 4],
        [4, 6],
        [6, 6],
    ]
    assert image.tolist() == [0] * 12 + [1] * 4
    assert parent.tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 3, 3, 3, 3, 5, 5, 5, 5]
    assert corner.tolist() == [0, 1, 0, 1, 2, 3, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]


def allocate(threshold=0.0, straight_through=True, **options):
    allocator = TokenAllocator(8, 16, straight_through, **options)
    feats = torch.randn(2 * 4, 8, requires_grad=True)
    tokens = TokenSet.from_map(torch.zeros(2, 8, 2, 2), 32).with_feats(feats)
    image = torch.randn(2, 3, 64, 64)
    return allocator, feats, allocator(tokens, image, ThresholdAllocation((threshold,)), 0)


@pytest.mark.parametrize('straight_through', [True, False])
def test_straight_through_changes_gradients_alone(straight_through):
    allocator, feats, (parents, children, _) = allocate(-1e9, straight_through)
    assert torch.equal(parents.feats, feats)
    assert children.lengths == (16, 16) and children.patch_size == 16
    (children.feats.square().sum() + parents.feats.square().sum()).backward()
    grads = [p.grad for p in allocator.score.parameters()]
    if straight_through:
        assert all(grad is not None for grad in grads) and any(grad.any() for grad in grads)
    else:
        assert all(grad is None for grad in grads)


def test_ablations_leave_parts_out():
    torch.manual_seed(1)
    allocator, _, (_, children, record) = allocate(-1e9, use_parent=False)
    assert allocator.embed.image_mlp is not None and record.selected.all()
    allocator, feats, (_, children, _) = allocate(-1e9, use_image=False)
    assert allocator.embed.image_mlp is None
    first = feats[0] + allocator.embed.position[0] + allocator.embed.scale
    torch.testing.assert_close(children.feats[0], first)
    wide, slim = (
        allocate(-1e9, image_hidden=kind)[0].embed.image_mlp[0].out_features
        for kind in ('pixels', 'dim')
    )
    assert (wide, slim) == (768, 8)


def test_no_selection_keeps_every_parameter_in_the_graph():
    allocator, _, (parents, children, record) = allocate(1e9)
    assert children.lengths == (0, 0) and len(children) == 0
    (children.feats.sum() + parents.feats.sum() + record.scores.sum()).backward()
    assert all(p.grad is not None for p in allocator.parameters())
