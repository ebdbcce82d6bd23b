from __future__ import annotations

import pytest
import torch

from mmseg_arta.ops import boundary_map, boundary_targets, patch_share
from tests.helpers import load_fixture

FIXTURE = load_fixture('arta/boundary_targets.pt')


@pytest.mark.parametrize('name', FIXTURE)
def test_published_targets(name):
    case = FIXTURE[name]
    edges = boundary_map(case['label'][None], ignore_as_class=True, padding=tuple(case['pad_hw']))
    assert torch.equal(edges[0], case['edge_mask'].bool())
    torch.testing.assert_close(patch_share(edges, 32).flatten(), case['scale0_raster'])
    for scale, size in ((1, 16), (2, 8)):
        xy = case[f'pos_scale{scale}'].int()
        found = boundary_targets(edges, xy, torch.zeros(len(xy), dtype=torch.long), size)
        torch.testing.assert_close(found, case[f'scale{scale}'])


def test_both_sides_of_an_edge_are_marked_and_ignored_pixels_make_none():
    labels = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 1], [255, 255, 255, 255], [2, 2, 2, 2]]])
    edges = boundary_map(labels)
    assert edges[0].int().tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_diagonal_neighbours_do_not_count():
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    labels[0, 1, 1] = 1
    assert boundary_map(labels)[0].int().tolist() == [
        [0, 1, 0, 0],
        [1, 1, 1, 0],
        [0, 1, 0, 0],
        [0, 0, 0, 0],
    ]


def test_an_image_without_labels_has_no_boundary():
    assert not boundary_map(torch.full((2, 5, 7), 255)).any()


def test_tokens_beyond_the_image_get_zero():
    edges = torch.ones(1, 8, 8, dtype=torch.bool)
    xy = torch.tensor([[0, 0], [2, 0], [0, 2]], dtype=torch.int32)
    found = boundary_targets(edges, xy, torch.zeros(3, dtype=torch.long), 8)
    assert found.tolist() == [1.0, 0.0, 0.0]


def test_partial_patches_divide_by_the_whole_patch():
    assert patch_share(torch.ones(1, 6, 8, dtype=torch.bool), 4).tolist() == [[[1, 1], [0.5, 0.5]]]


def test_labels_must_have_three_dimensions():
    with pytest.raises(ValueError, match='labels must be'):
        boundary_map(torch.zeros(4, 4, dtype=torch.long))
