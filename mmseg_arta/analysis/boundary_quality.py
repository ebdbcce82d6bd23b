"""How good predictions are near class boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from mmseg.evaluation import IoUMetric
from scipy import ndimage

from ..ops import boundary_map

#: Widths of the bands around class boundaries, in pixels.
BANDS = (1, 2, 4, 8, 16)

#: Share of an image's diagonal that a boundary region is wide (Boundary IoU, CVPR 2021).
BOUNDARY_RATIO = 0.02

_IGNORE = 255


@dataclass(frozen=True)
class BoundaryTable:
    """IoU of every class, in percent, NaN for classes that neither occur nor are predicted.

    Attributes:
        whole: ``(C,)`` over all pixels.
        bands: width in pixels to the IoU over pixels less than that far from a class boundary of
            the ground truth.
        beyond: over the pixels in none of the bands.
        boundary: boundary IoU.
    """

    whole: np.ndarray
    bands: dict[int, np.ndarray]
    beyond: np.ndarray
    boundary: np.ndarray

    def columns(self) -> dict[str, np.ndarray]:
        """All of them by name."""
        return {
            'IoU': self.whole,
            **{f'IoU within {width} px': values for width, values in self.bands.items()},
            f'IoU beyond {max(self.bands)} px': self.beyond,
            'boundary IoU': self.boundary,
        }

    def means(self) -> dict[str, float]:
        """Their means over classes, as mIoU is one; NaN if there is no class."""
        return {name: _mean(values) for name, values in self.columns().items()}


class BoundaryQuality:
    """Collects intersections and unions near class boundaries over images.

    Bands: the IoU over pixels less than so many pixels from a class boundary of the ground truth
    (:func:`~mmseg_arta.ops.boundary_map`, both of its sides; 1 px is these alone). Boundary IoU
    (Cheng et al., CVPR 2021): for every class the IoU of the pixels of its mask that are at most
    ``d`` pixels from the mask's contour, in the prediction and in the ground truth; ``d`` is a
    share of the image's diagonal, distances are those of 3x3 erosions, and the image's border is
    a contour, as in the published code. Sums go over the data set. Ignored pixels belong to no
    mask.

    Args:
        classes: how many.
        widths: of the bands, ascending.
        ratio: share of the diagonal.
        ignore_index: label of ignored pixels.
    """

    def __init__(
        self,
        classes: int,
        widths: Sequence[int] = BANDS,
        ratio: float = BOUNDARY_RATIO,
        ignore_index: int = _IGNORE,
    ) -> None:
        self.classes, self.widths, self.ratio = classes, tuple(widths), ratio
        self.ignore_index = ignore_index
        # Of the bands, of what is beyond, and of all pixels: intersection and union.
        self._areas = np.zeros((len(self.widths) + 2, 2, classes))
        self._boundary = np.zeros((2, classes))

    def add(self, prediction: np.ndarray, truth: np.ndarray) -> None:
        """One image.

        Args:
            prediction: ``(H, W)`` class indices.
            truth: the same.

        Raises:
            ValueError: if their sizes differ.
        """
        if prediction.shape != truth.shape:
            raise ValueError(
                f'prediction and ground truth must have one size, found {prediction.shape} and '
                f'{truth.shape}'
            )
        prediction, truth = (one.astype(np.int64) for one in (prediction, truth))
        counted = truth != self.ignore_index
        distance = boundary_distance(truth, self.ignore_index)
        wheres = [distance < width for width in self.widths]
        wheres += [distance >= self.widths[-1], np.ones_like(counted)]
        predicted = torch.from_numpy(prediction)
        for areas, where in zip(self._areas, wheres, strict=True):
            labels = torch.from_numpy(np.where(where, truth, self.ignore_index))
            intersect, union, _, _ = IoUMetric.intersect_and_union(
                predicted, labels, self.classes, self.ignore_index
            )
            areas += np.stack((intersect.numpy(), union.numpy()))
        width = max(round(self.ratio * float(np.hypot(*truth.shape))), 1)
        for number in np.union1d(truth[counted], prediction[counted]):
            if not 0 <= number < self.classes:
                continue
            regions = [
                boundary_region((one == number) & counted, width) for one in (truth, prediction)
            ]
            self._boundary[0, number] += np.logical_and(*regions).sum()
            self._boundary[1, number] += np.logical_or(*regions).sum()

    def table(self) -> BoundaryTable:
        """IoU over all images."""
        with np.errstate(invalid='ignore'):
            *bands, beyond, whole = 100 * self._areas[:, 0] / self._areas[:, 1]
            boundary = 100 * self._boundary[0] / self._boundary[1]
        return BoundaryTable(whole, dict(zip(self.widths, bands, strict=True)), beyond, boundary)


def boundary_distance(labels: np.ndarray, ignore_index: int = _IGNORE) -> np.ndarray:
    """Distance of every pixel to the nearest class-boundary pixel, ``(H, W)``; inf without any.

    Args:
        labels: ``(H, W)`` class indices.
        ignore_index: label of ignored pixels; they make no boundary.
    """
    edges = boundary_map(torch.from_numpy(labels[None].astype(np.int64)), ignore_index)[0].numpy()
    if not edges.any():
        return np.full(labels.shape, np.inf)
    return ndimage.distance_transform_edt(~edges)


def boundary_region(mask: np.ndarray, width: int) -> np.ndarray:
    """The pixels of a mask at most ``width`` px from its contour or the image's border.

    Args:
        mask: ``(H, W)`` bool.
        width: of the region in pixels, in chessboard distance.
    """
    inner = cv2.erode(
        mask.astype(np.uint8),
        np.ones((3, 3), np.uint8),
        iterations=width,
        borderType=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    return mask & ~inner.astype(bool)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float('nan')
