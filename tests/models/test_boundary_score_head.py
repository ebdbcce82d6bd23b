from __future__ import annotations

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmseg_arta.models import BoundaryScoreHead
from mmseg_arta.structures import AllocationRound, MixedTokens, TokenMaps, TokenSet


def sample(labels):
    return SegDataSample(gt_sem_seg=PixelData(data=labels[None]))


def tokens_for(scores, image_size=(32, 64)):
    coarse = TokenSet.from_map(torch.zeros(1, 2, 1, 2), 32)
    record = AllocationRound(
        scores, scores > 0, coarse.xy, coarse.offsets, coarse.lengths, (0,), 32, coarse.grid
    )
    return MixedTokens((coarse,), image_size, (32, 64), (record,))


def striped():
    labels = torch.zeros(32, 64, dtype=torch.long)
    labels[16:, :32] = 1  # two boundary rows in the first patch: a share of 2 / 32
    return labels


@pytest.mark.parametrize(
    'loss, expected',
    [('mse', ((0.5 - 2 / 32) ** 2 + 0.25**2) / 2), ('mae', ((0.5 - 2 / 32) + 0.25) / 2)],
)
def test_loss_is_the_mean_over_tokens_times_its_weight(loss, expected):
    labels = striped()
    labels[:, 32:] = 255
    labels[0, 32] = 0  # one labelled pixel: the patch counts, and has no boundary
    labels[1, 32] = 255
    found = BoundaryScoreHead(loss_weight=3.0, loss=loss).loss(
        tokens_for(torch.tensor([0.5, 0.25])), [sample(labels)]
    )
    assert list(found) == ['loss_boundary_1']
    torch.testing.assert_close(float(found['loss_boundary_1']), 3.0 * expected)


def test_wholly_ignored_patches_take_no_part():
    labels = torch.zeros(32, 64, dtype=torch.long)
    labels[:, 32:] = 255
    scores = torch.tensor([0.5, 100.0], requires_grad=True)
    found = BoundaryScoreHead(1.0).loss(tokens_for(scores), [sample(labels)])['loss_boundary_1']
    torch.testing.assert_close(float(found), 0.25)
    found.backward()
    assert scores.grad.tolist() == [1.0, 0.0]


@pytest.mark.parametrize('padding', [(0, 32, 0, 0), (0, 48, 0, 0)])
def test_padding_of_a_crop_has_no_boundary(padding):
    """Unlabelled pixels say nothing, padding does, though it is labelled as they are."""
    labels = torch.zeros(32, 64, dtype=torch.long)
    labels[:, 64 - padding[1] :] = 255
    padded = sample(labels)
    padded.set_metainfo(dict(padding_size=padding))
    scores = torch.tensor([0.5, 2.0], requires_grad=True)
    found = BoundaryScoreHead(1.0).loss(tokens_for(scores), [padded])['loss_boundary_1']
    torch.testing.assert_close(float(found), (0.25 + 4.0) / 2)
    found.backward()
    assert scores.grad.tolist() == [0.5, 2.0]


def test_an_image_without_labels_gives_zero():
    labels = torch.full((32, 64), 255)
    scores = torch.ones(2, requires_grad=True)
    found = BoundaryScoreHead().loss(tokens_for(scores), [sample(labels)])['loss_boundary_1']
    found.backward()
    assert float(found) == 0.0 and scores.grad.tolist() == [0.0, 0.0]


def test_works_behind_the_neck():
    tokens = tokens_for(torch.zeros(2))
    maps = TokenMaps([], tokens)
    head = BoundaryScoreHead()
    assert head.loss(maps, [sample(striped())]) == head.loss(tokens, [sample(striped())])


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"loss must be .*mae.*mse.*found 'huber'"):
        BoundaryScoreHead(loss='huber')
    with pytest.raises(ValueError, match=r'images are \(32, 64\).*labels \(32, 32\)'):
        BoundaryScoreHead().loss(tokens_for(torch.zeros(2)), [sample(striped()[:, :32])])
    with pytest.raises(TypeError, match='needs the tokens of a sparse backbone'):
        BoundaryScoreHead().loss([torch.zeros(1)], [sample(striped())])
