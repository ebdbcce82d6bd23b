"""The panels of one image: what went in, what the tokens did, what came out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from scipy import ndimage

from ..ops import boundary_map
from .drawing import Panel, draw_cells, draw_errors, draw_labels, draw_scores, draw_two
from .token_view import ChosenPatches, TokenView, chosen_patches, joined, view_of
from .windows import Window

#: Label of pixels that do not count.
IGNORED = 255


@dataclass(frozen=True)
class ImageResult:
    """An image as the network saw it, with what is known and what was predicted of it.

    Attributes:
        name: of the image.
        image: ``(H, W, 3)`` uint8 RGB, without padding.
        prediction: ``(H, W)`` class indices.
        truth: the same of the ground truth, if there is one.
    """

    name: str
    image: np.ndarray
    prediction: np.ndarray
    truth: np.ndarray | None = None

    @classmethod
    def of(cls, sample: Any, name: str, ignore_index: int = IGNORED) -> ImageResult:
        """Of a segmentor's result.

        Args:
            sample: with ``img_path``, ``img_shape``, ``pred_sem_seg``, and maybe ``gt_sem_seg``.
            name: of the image.
            ignore_index: label of ignored pixels in its ground truth; 255 in the result.

        Raises:
            ValueError: if the file is none that OpenCV reads as a picture.
        """
        height, width = sample.metainfo['img_shape'][:2]
        path = sample.metainfo.get('img_path')
        try:
            image = mmcv.imread(path, channel_order='rgb')
        except (cv2.error, OSError, TypeError, ValueError) as error:
            raise ValueError(f'{path!r} cannot be read as a picture') from error

        def sized(labels: Any) -> np.ndarray:
            indices = labels.data.squeeze(0).cpu().numpy().astype(np.int32)
            return mmcv.imresize(indices, (width, height), interpolation='nearest', backend='cv2')

        truth = None
        if 'gt_sem_seg' in sample:
            truth = sized(sample.gt_sem_seg)
            truth[truth == ignore_index] = IGNORED
        image = mmcv.imresize(image, (width, height))
        return cls(name, image, sized(sample.pred_sem_seg), truth)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def label_maps(self) -> list[np.ndarray]:
        """Prediction and, if there is one, ground truth."""
        return [self.prediction] if self.truth is None else [self.prediction, self.truth]


def view_of_windows(
    windows: Sequence[Window], index: int, size: tuple[int, int], views: Iterable[TokenView] = ()
) -> TokenView:
    """The tokens of all forward passes over an image, see :func:`~.token_view.joined`.

    Args:
        windows: what the passes of the batch saw.
        index: image in the batch.
        size: height and width of the image.
        views: of each pass, if more is known of them than their tokens.
    """
    views = list(views) or [view_of(window.tokens, index) for window in windows]
    return joined(views, [(window.top, window.left) for window in windows], size)


def token_rows(
    result: ImageResult,
    view: TokenView,
    palette: Sequence[Sequence[int]],
    chosen: Sequence[tuple[ChosenPatches, int, int]] = (),
) -> list[list[Panel]]:
    """All panels of an image in rows: what is known, scores, tokens.

    Args:
        result: the image.
        view: of its tokens.
        palette: RGB of every class.
        chosen: patches with the finest tokens, and top and left of their window.
    """
    image = result.image
    known = [Panel('image', result.name, image)]
    if result.truth is not None:
        known.append(Panel('truth', 'ground truth', draw_labels(result.truth, palette)))
    predicted = draw_labels(result.prediction, palette)
    known.append(Panel('prediction', 'prediction', predicted))
    if result.truth is not None:
        known.append(error_panel(result, result.prediction))
    scores = []
    for score in view.scores:
        drawn, between = draw_scores(image, score)
        scores.append(Panel('scores', f'{score.title}: {between}', drawn))
    tokens = [Panel('tokens', cells.caption, draw_cells(image, cells)) for cells in view.rounds]
    if view.cells is not None:
        tokens.append(Panel('cells', view.cells.caption, draw_cells(image, view.cells)))
    if result.truth is not None and chosen:
        min(scores, tokens, key=len).append(_boundary_panel(result, result.truth, chosen))
    return [row for row in (known, scores, tokens) if row]


def finest_chosen(windows: Sequence[Window], index: int) -> list[tuple[ChosenPatches, int, int]]:
    """The patches with the finest tokens in all windows, for :func:`token_rows`."""
    found = []
    for window in windows:
        rounds = chosen_patches(window.tokens, index)
        if rounds:
            best = min(rounds, key=lambda one: (one.patch_size, -int(one.chosen.sum())))
            found.append((best, window.top, window.left))
    return found


def error_panel(result: ImageResult, prediction: np.ndarray, whose: str = '') -> Panel:
    """Where a prediction is wrong; the image has ground truth."""
    assert result.truth is not None
    unknown = result.truth == IGNORED
    wrong = (prediction != result.truth) & ~unknown
    share = 100 * wrong.sum() / max((~unknown).sum(), 1)
    drawn = draw_errors(result.image, wrong, unknown)
    return Panel('errors', f'errors{whose}: {share:.1f} % of pixels', drawn)


def _boundary_panel(
    result: ImageResult, truth: np.ndarray, chosen: Sequence[tuple[ChosenPatches, int, int]]
) -> Panel:
    edges = boundary_map(torch.from_numpy(truth[None]), IGNORED)[0].numpy()
    covered = np.zeros_like(edges)
    for patches, top, left in chosen:
        cover = patches.chosen.repeat(patches.patch_size, 0).repeat(patches.patch_size, 1)
        place = covered[top : top + cover.shape[0], left : left + cover.shape[1]]
        place |= cover[: place.shape[0], : place.shape[1]]
    share = 100 * (edges & covered).sum() / max(edges.sum(), 1)
    # Twice as wide as it is: sheets are often seen small.
    wide = ndimage.binary_dilation(edges)
    drawn = draw_two(result.image, wide & covered, wide & ~covered)
    return Panel('boundary', f'{share:.0f} % of boundary under {chosen[0][0].tokens}', drawn)
