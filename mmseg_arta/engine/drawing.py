"""Pictures of what the tokens do."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ..structures import FINEST_PATCH
from .windows import Window

# One colour (RGB) per allocation round: 16, 8 and 4 px tokens.
_ROUND_COLORS = ((66, 135, 245), (245, 166, 35), (225, 50, 95))
_CAPTION = 22


def draw_tokens(
    image: np.ndarray, windows: Sequence[Window], index: int, level: int
) -> tuple[np.ndarray, int]:
    """An image with the tokens of one level marked; the rest is darkened.

    Args:
        image: ``(H, W, 3)`` uint8 RGB, the network's input without padding.
        windows: what the forward passes of the batch saw.
        index: image in the batch.
        level: which level, 0 the coarsest.

    Returns:
        ``(H, W, 3)`` uint8 RGB, and the number of tokens in all windows.
    """
    size = windows[0].tokens.levels[level].patch_size
    corners = np.concatenate([_corners(window, index, level) for window in windows])
    color = np.array(_ROUND_COLORS[(level - 1) % len(_ROUND_COLORS)])
    marked = np.zeros(image.shape[:2], dtype=bool)
    for x, y in corners:
        marked[y : y + size, x : x + size] = True
    mixed = np.where(marked[..., None], 0.62 * image + 0.38 * color, 0.55 * image)
    drawn = np.ascontiguousarray(mixed.astype(np.uint8))
    for x, y in corners if size >= 2 * FINEST_PATCH else ():
        end = (int(x) + size - 1, int(y) + size - 1)
        cv2.rectangle(drawn, (int(x), int(y)), end, color.tolist(), 1)
    return drawn, len(corners)


def _corners(window: Window, index: int, level: int) -> np.ndarray:
    """Top-left corners ``(N, 2)`` of an image's tokens in pixels ``(x, y)`` of the input."""
    tokens = window.tokens.levels[level]
    begin, end = (int(tokens.offsets[index + i]) for i in range(2))
    corners = tokens.xy[begin:end].cpu().numpy() * FINEST_PATCH
    return corners + np.array([window.left, window.top])


def color_labels(labels: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Class indices ``(H, W)`` to ``(H, W, 3)`` uint8 RGB; indices beyond the palette are black."""
    table = np.zeros((256, 3), dtype=np.uint8)
    colors = np.asarray(palette, dtype=np.uint8)[:256]
    table[: len(colors)] = colors
    return table[np.clip(labels, 0, 255).astype(np.uint8)]


def panel(pictures: Sequence[tuple[str, np.ndarray]], columns: int = 3) -> np.ndarray:
    """Captioned pictures of one size side by side, in rows of ``columns``.

    Args:
        pictures: caption and ``(H, W, 3)`` uint8 picture.
        columns: pictures per row.
    """
    height, width = pictures[0][1].shape[:2]
    rows = -(-len(pictures) // columns)
    sheet = np.full(
        (rows * (height + _CAPTION), min(columns, len(pictures)) * width, 3), 255, dtype=np.uint8
    )
    for number, (caption, picture) in enumerate(pictures):
        top = (number // columns) * (height + _CAPTION)
        left = (number % columns) * width
        cv2.putText(
            sheet,
            caption,
            (left + 4, top + 16),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.45,
            (0, 0, 0),
            1,
            cv2.LINE_AA,
        )
        sheet[top + _CAPTION : top + _CAPTION + height, left : left + width] = picture
    return sheet
