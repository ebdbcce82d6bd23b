"""IoU in bands around class boundaries, and boundary IoU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from mmseg_arta.analysis.boundary_quality import (
    BoundaryQuality,
    boundary_distance,
    boundary_region,
)
from mmseg_arta.ops import boundary_map


def blobs(seed, size=(60, 80), classes=4):
    noise = np.random.default_rng(seed).normal(size=(classes, *size))
    return ndimage.gaussian_filter(noise, (0, 6, 6)).argmax(0)


def iou(prediction, truth, where, number):
    first, second = (prediction == number) & where, (truth == number) & where
    return 100 * (first & second).sum() / (first | second).sum()


def test_bands_by_definition():
    truth, prediction = blobs(0), blobs(1)
    truth[:10, :10] = 255
    quality = BoundaryQuality(4, widths=(1, 3, 5))
    quality.add(prediction, truth)
    table = quality.table()
    edges = boundary_map(torch.from_numpy(truth)[None])[0].numpy()
    places = np.argwhere(edges)
    rows, columns = np.indices(truth.shape)
    distance = np.min([np.hypot(rows - y, columns - x) for y, x in places], axis=0)
    counted = truth != 255
    for number in range(4):
        assert table.whole[number] == pytest.approx(iou(prediction, truth, counted, number))
        for width, values in table.bands.items():
            near = counted & (distance < width)
            assert values[number] == pytest.approx(iou(prediction, truth, near, number))
        far = counted & (distance >= 5)
        assert table.beyond[number] == pytest.approx(
            iou(prediction, truth, far, number), nan_ok=True
        )
    # The first band is the boundary itself.
    assert ((distance < 1) == edges).all()


def test_boundary_iou_by_definition():
    truth, prediction = blobs(2), blobs(3)
    quality = BoundaryQuality(5, ratio=0.03)
    quality.add(prediction, truth)
    width = round(0.03 * np.hypot(60, 80))
    assert width == 3

    def region(mask):
        # Chessboard distance to what is not the mask, the outside of the image included.
        padded = np.pad(mask, 1)
        return mask & (ndimage.distance_transform_cdt(padded)[1:-1, 1:-1] <= width)

    table = quality.table()
    for number in range(4):
        first, second = region(prediction == number), region(truth == number)
        expected = 100 * (first & second).sum() / (first | second).sum()
        assert table.boundary[number] == pytest.approx(expected)
    assert np.isnan(table.boundary[4]) and np.isnan(table.whole[4])
    assert table.means()['boundary IoU'] == pytest.approx(table.boundary[:4].mean())


def test_images_add_up_and_a_perfect_one_has_all():
    quality = BoundaryQuality(4, widths=(1, 2, 4))
    for seed in (4, 5):
        quality.add(blobs(seed), blobs(seed))
    means = quality.table().means()
    assert set(means.values()) == {100.0}
    assert list(means) == [
        'IoU',
        *(f'IoU within {width} px' for width in (1, 2, 4)),
        'IoU beyond 4 px',
        'boundary IoU',
    ]
    both = BoundaryQuality(4)
    both.add(blobs(4), blobs(5))
    both.add(blobs(5), blobs(5))
    alone = BoundaryQuality(4)
    alone.add(blobs(4), blobs(5))
    assert (both.table().boundary > alone.table().boundary).all()


def test_wrong_boundaries_cost_more_near_boundaries():
    truth = np.zeros((100, 100), np.int64)
    truth[30:70, 30:70] = 1
    prediction = np.zeros_like(truth)
    prediction[32:72, 30:70] = 1
    quality = BoundaryQuality(2, ratio=0.02)
    quality.add(prediction, truth)
    means = quality.table().means()
    order = [means[f'IoU within {width} px'] for width in (1, 2, 4, 8, 16)]
    assert order == sorted(order) and order[-1] < means['IoU'] and means['IoU beyond 16 px'] == 100
    assert means['boundary IoU'] < means['IoU']


def test_ignored_pixels_do_not_count():
    truth, prediction = blobs(6), blobs(7)
    truth[:, 40:] = 255
    halves = BoundaryQuality(4, ratio=0.02)
    halves.add(prediction, truth)
    changed = prediction.copy()
    changed[:, 40:] = 3
    again = BoundaryQuality(4, ratio=0.02)
    again.add(changed, truth)
    for name, values in halves.table().columns().items():
        assert np.array_equal(values, again.table().columns()[name], equal_nan=True), name
    nothing = BoundaryQuality(4)
    nothing.add(prediction, np.full_like(truth, 255))
    assert np.isnan(nothing.table().means()['IoU'])


def test_one_class_has_no_boundary():
    assert np.isinf(boundary_distance(np.zeros((5, 5), np.int64))).all()
    mask = np.ones((9, 9), bool)
    assert boundary_region(mask, 2).sum() == 81 - 25
    with pytest.raises(ValueError, match=r'one size, found \(2, 2\) and \(3, 3\)'):
        BoundaryQuality(2).add(np.zeros((2, 2)), np.zeros((3, 3)))
