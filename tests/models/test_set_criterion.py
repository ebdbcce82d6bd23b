from __future__ import annotations

from itertools import permutations

import pytest
import torch
import torch.nn.functional as F

from mmseg_arta.models.losses import ClassMasks, HungarianMatcher, SetCriterion
from mmseg_arta.models.losses.class_masks import sample_maps, uncertain_points

CLASSES = 4


def case(batch=2, queries=6, size=(8, 12), stride=4, predictions=2):
    class_logits = [torch.randn(batch, queries, CLASSES + 1) for _ in range(predictions)]
    mask_logits = [2 * torch.randn(batch, queries, *size) for _ in range(predictions)]
    labels = torch.randint(0, CLASSES, (batch, size[0], size[1]))
    labels = labels.repeat_interleave(stride, 1).repeat_interleave(stride, 2)
    labels[0][labels[0] == 1] = 255
    return (
        [x.requires_grad_() for x in class_logits],
        [x.requires_grad_() for x in mask_logits],
        labels.to(torch.uint8),
    )


def masks_of(labels, classes):
    return torch.stack([labels == c for c in classes]).float()


def test_classes_of_images():
    labels = torch.tensor([[[3, 3], [255, 0]], [[255, 255], [255, 255]], [[1, 1], [1, 1]]])
    found = ClassMasks.of(labels, CLASSES)
    assert found.counts == (2, 0, 1)
    assert found.classes.tolist() == [[0, 3], [-1, -1], [1, -1]]
    assert found.image_of_mask().tolist() == [0, 0, 2]
    assert found.class_of_mask().tolist() == [0, 3, 1]


@pytest.mark.parametrize('label', [4, 254, -1])
def test_a_label_that_is_no_class_is_an_error(label):
    labels = torch.tensor([[[0, label]]])
    with pytest.raises(ValueError, match=f'label {label}: expected 0 to 3, or ignore_index 255'):
        ClassMasks.of(labels, CLASSES)


def test_pooled_masks():
    _, _, labels = case()
    labels[0, 5, 6] = 3
    targets = ClassMasks.of(labels, CLASSES)
    pooled = targets.pooled((8, 12)).view(2, -1, 8, 12)
    for image, count in enumerate(targets.counts):
        for number, c in enumerate(targets.classes[image, :count].tolist()):
            expected = F.max_pool2d((labels[image] == c).float()[None], 4)[0]
            assert torch.equal(pooled[image, number], expected)


def test_sampled_masks_are_bilinear():
    _, _, labels = case()
    targets = ClassMasks.of(labels, CLASSES)
    points = torch.rand(2, 50, 2)
    points[:, :4] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1e-3, 0.5]])
    found = targets.sample(torch.tensor([1, 0]), torch.tensor([[0, 2, 3], [3, 2, 1]]), points)
    for row, (image, classes) in enumerate([(1, (0, 2, 3)), (0, (3, 2, 1))]):
        expected = sample_maps(masks_of(labels[image], classes)[None], points[row : row + 1])
        torch.testing.assert_close(found[row], expected[0], atol=1e-5, rtol=0)


def test_uncertain_points_lie_where_the_mask_is_undecided():
    maps = torch.linspace(5, -5, 16).expand(3, 16, 16)  # undecided in the middle only
    points = uncertain_points(maps, 400)
    assert points.shape == (3, 400, 2) and points.min() >= 0 and points.max() <= 1
    near = ((points[..., 0] - 0.5).abs() < 0.15).float().mean(1)
    assert (near > 0.75).all()
    even = uncertain_points(maps, 400, importance=0.0)
    assert (((even[..., 0] - 0.5).abs() < 0.15).float().mean(1) < 0.5).all()


def test_matching_is_the_cheapest_assignment():
    class_logits, mask_logits, labels = case(batch=1, queries=4, predictions=1)
    targets = ClassMasks.of(labels, CLASSES)
    (count,) = targets.counts
    classes = targets.classes[0, :count].tolist()
    wanted = masks_of(labels[0, ::4, ::4], classes).flatten(1)
    cost = torch.zeros(4, count)
    for query in range(4):
        logits = mask_logits[0][0, query].flatten().detach()
        for number, c in enumerate(classes):
            p, t = logits.sigmoid(), wanted[number]
            cost[query, number] = (
                -2 * class_logits[0][0, query].detach().softmax(-1)[c]
                + 5 * F.binary_cross_entropy(p, t)
                + 5 * (1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1))
            )
    best = min(
        permutations(range(4), count), key=lambda q: sum(cost[a, b] for b, a in enumerate(q))
    )
    matcher = HungarianMatcher()
    torch.testing.assert_close(matcher.costs(class_logits, mask_logits, targets)[0, 0], cost)
    matches = matcher(class_logits, mask_logits, targets)
    assert tuple(matches.query[0].tolist()) == best
    assert matches.classes.tolist() == classes


def test_points_and_all_cells_agree_on_smooth_masks():
    # Every cell of a mask has the same value in its neighbourhood, so places matter little.
    class_logits, mask_logits, labels = case(size=(16, 16))
    labels = torch.zeros_like(labels)
    labels[:, :, 32:] = 2
    smooth = [x.detach().mean((2, 3), keepdim=True).expand_as(x) for x in mask_logits]
    cells = SetCriterion(CLASSES)(class_logits, smooth, labels)
    points = SetCriterion(CLASSES, num_points=200)(class_logits, smooth, labels)
    for name in cells:
        torch.testing.assert_close(points[name], cells[name], atol=0.25, rtol=0.1)
        assert name.endswith('cls') or not torch.equal(points[name], cells[name])


def test_weights_and_names():
    class_logits, mask_logits, labels = case(predictions=3)
    plain = SetCriterion(CLASSES, class_weight=1, mask_weight=1, dice_weight=1)
    plain.matcher = HungarianMatcher()
    plain = plain(class_logits, mask_logits, labels)
    weighted = SetCriterion(CLASSES)(class_logits, mask_logits, labels)
    kinds = {'cls': 2.0, 'mask': 5.0, 'dice': 5.0}
    assert set(weighted) == {f'{p}loss_{k}' for p in ('', 'd0.', 'd1.') for k in kinds}
    for name, value in weighted.items():
        torch.testing.assert_close(value, kinds[name.rsplit('_', 1)[1]] * plain[name])


@pytest.mark.parametrize('num_points', [12544, 40], ids=['cells', 'points'])
@pytest.mark.parametrize('kind', ['all-ignored', 'one-class', 'one-image-ignored'])
def test_few_labels(kind, num_points):
    class_logits, mask_logits, labels = case()
    if kind == 'one-class':
        labels[:] = 3
    else:
        labels[slice(None) if kind == 'all-ignored' else 1] = 255
    losses = SetCriterion(CLASSES, num_points=num_points)(class_logits, mask_logits, labels)
    sum(losses.values()).backward()
    for logits in (*class_logits, *mask_logits):
        assert logits.grad is not None and logits.grad.isfinite().all()
    empty = kind == 'all-ignored'
    for name, value in losses.items():
        assert value.isfinite() and (float(value.detach()) == 0) is (
            empty and not name.endswith('cls')
        )


def test_number_of_masks_is_the_mean_over_ranks(monkeypatch):
    class_logits, mask_logits, labels = case()
    alone = SetCriterion(CLASSES)(class_logits, mask_logits, labels)
    from mmseg_arta.models.losses import set_criterion

    monkeypatch.setattr(set_criterion, 'all_reduce', lambda x, op: x.mul_(2) if op == 'mean' else x)
    found = SetCriterion(CLASSES)(class_logits, mask_logits, labels)
    for name in alone:
        factor = 1 if name.endswith('cls') else 2
        torch.testing.assert_close(found[name] * factor, alone[name])
    # One mask on four ranks is not multiplied by four.
    monkeypatch.setattr(set_criterion, 'all_reduce', lambda x, op: x.fill_(0.25))
    labels[:] = 255
    labels[0, :4] = 2
    one = SetCriterion(CLASSES)(class_logits, mask_logits, labels)
    monkeypatch.undo()
    again = SetCriterion(CLASSES)(class_logits, mask_logits, labels)
    for name in one:
        torch.testing.assert_close(one[name], again[name])


def test_more_classes_than_queries_is_an_error():
    class_logits, mask_logits, labels = case(queries=3)
    with pytest.raises(ValueError, match='shows 4 classes, but num_queries is 3'):
        SetCriterion(CLASSES)(class_logits, mask_logits, labels)


@pytest.mark.parametrize('value', [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize('what', ['classes', 'masks'])
def test_predictions_that_are_not_finite_give_such_a_loss(value, what):
    class_logits, mask_logits, labels = case()
    with torch.no_grad():
        (class_logits if what == 'classes' else mask_logits)[1][0] = value
    losses = SetCriterion(CLASSES)(class_logits, mask_logits, labels)
    assert not torch.isfinite(sum(losses.values()))


def test_label_size_is_checked():
    class_logits, mask_logits, labels = case()
    with pytest.raises(ValueError, match=r'multiple of the masks.* \(8, 12\), found \(31, 48\)'):
        SetCriterion(CLASSES)(class_logits, mask_logits, labels[:, :31])
