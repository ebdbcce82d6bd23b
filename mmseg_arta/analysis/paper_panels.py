"""Panels of the papers' figures: what AutoFocusFormer merges, and two models side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from ..engine.drawing import Panel, draw_labels, draw_two
from ..engine.token_panels import IGNORED, ImageResult, error_panel
from ..structures import FINEST_PATCH
from .passes import Merge

_BOXES = 3


def merging_panel(image: np.ndarray, merge: Merge) -> Panel:
    """Tokens by importance, those kept, and what some of them were merged from (AFF figure 4).

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        merge: of the pass over it.
    """
    marks, shown, kept = merge_marks(merge)
    dark = (0.35 * image).astype(np.uint8)
    return Panel('merging', f'merging into {shown} of {kept} tokens', dark, marks)


def compared(
    rows: Sequence[Sequence[Panel]],
    result: ImageResult,
    theirs: np.ndarray,
    names: tuple[str, str],
    palette: Sequence[Sequence[int]],
) -> list[list[Panel]]:
    """With another model's prediction and errors, and the difference (LRFormer figures 5 and 6).

    Red boxes are around the largest regions where the first model alone is right.

    Args:
        rows: panels of the first model.
        result: its prediction.
        theirs: ``(H, W)`` class indices that the other one predicts.
        names: of both.
        palette: RGB of every class.
    """
    drawn = draw_labels(theirs, palette)
    if result.truth is None:
        differ = theirs != result.prediction
        marks = None
        picture = draw_two(result.image, np.zeros_like(differ), differ)
        difference = Panel('difference', f'differ: {_percent(differ)} % of pixels', picture)
        added = [Panel('other', names[1], drawn), difference]
    else:
        counted = result.truth != IGNORED
        right, their_right = (one == result.truth for one in (result.prediction, theirs))
        ours, lost = right & ~their_right & counted, their_right & ~right & counted
        marks = _boxes(ours)
        shares = (_percent(one[counted]) for one in (ours, lost))
        title = 'only one right: {} % (blue), {} %'.format(*shares)
        errors = error_panel(result, theirs)
        added = [
            Panel('other', names[1], drawn, marks),
            Panel('other-errors', errors.title, errors.picture),
            Panel('difference', title, draw_two(result.image, ours, lost)),
        ]
    first = [
        Panel(panel.key, names[0], panel.picture, marks) if panel.key == 'prediction' else panel
        for panel in rows[0]
    ]
    return [first, added, *map(list, rows[1:])]


def _percent(mask: np.ndarray) -> str:
    return f'{100 * mask.mean() if mask.size else 0:.1f}'


def _boxes(mask: np.ndarray) -> Any:
    """Draws red boxes around the largest parts of a mask."""
    # Thin lines along boundaries are no improvement that one can see.
    labels, count = ndimage.label(ndimage.binary_opening(mask, iterations=2))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    largest = [number for number in np.argsort(-sizes)[:_BOXES] if sizes[number] > mask.size / 500]
    places = ndimage.find_objects(labels)

    def draw(axes: Any) -> None:
        from matplotlib.patches import Rectangle

        for number in largest:
            # A little more than the part, but inside the image.
            (top, bottom), (left, right) = (
                (max(part.start - 4, 1), min(part.stop + 4, side - 2))
                for part, side in zip(places[number], mask.shape, strict=True)
            )
            size = (right - left, bottom - top)
            axes.add_patch(Rectangle((left, top), *size, fill=False, color='red', linewidth=2))

    return draw


def merge_marks(merge: Merge, index: int = 0, at_most: int = 6) -> tuple[Any, int, int]:
    """Draws tokens by importance, those kept, and what some of them were merged from.

    This is AutoFocusFormer's figure 4 on an image. The tokens shown are the most important ones
    that lie apart.

    Returns:
        What draws on matplotlib's axes, tokens shown, and tokens kept.
    """
    places = merge.places(index) * FINEST_PATCH + (FINEST_PATCH - 1) / 2
    scores, centers = merge.scores(index), merge.centers(index)
    apart = 0.3 * min(np.ptp(places, 0) + 1)
    shown: list[int] = []
    for center in centers[np.argsort(-scores[centers], kind='stable')]:
        gaps = np.linalg.norm(places[shown] - places[center], axis=1)
        if len(shown) < at_most and (gaps > apart).all():
            shown.append(int(center))
    lines, widths = [], []
    for center in shown:
        for member in merge.members(index, center):
            lines.append((places[center], places[member]))
            widths.append(0.3 + 2.2 * scores[member] / max(scores.max(), 1e-12))

    def draw(axes: Any) -> None:
        from matplotlib.collections import LineCollection

        axes.add_collection(LineCollection(lines, linewidths=widths, colors='white', alpha=0.8))
        axes.scatter(*places.T, c=scores, s=14, cmap='inferno', zorder=2, linewidths=0)
        axes.scatter(
            *places[centers].T, s=34, facecolors='none', edgecolors='cyan', linewidths=0.8, zorder=3
        )
        axes.scatter(*places[shown].T, s=60, c='cyan', zorder=4, linewidths=0)

    return draw, len(shown), len(centers)
