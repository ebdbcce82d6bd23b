"""Pictures of what the tokens do."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ..structures import FINEST_PATCH, MixedTokens

# One colour (RGB) per allocation round: 16, 8 and 4 px tokens.
_ROUND_COLORS = ((66, 135, 245), (245, 166, 35), (225, 50, 95))
_CAPTION = 22


def draw_round(image: np.ndarray, tokens: MixedTokens, index: int, level: int) -> np.ndarray:
    """An image with the tokens of one level marked; the rest is darkened.

    Args:
        image: ``(H, W, 3)`` uint8 RGB, the network's input without padding.
        tokens: of the batch.
        index: image in the batch.
        level: which level, 0 the coarsest.

    Returns:
        ``(H, W, 3)`` uint8 RGB.
    """
    level_set = tokens.levels[level]
    begin, end = (int(level_set.offsets[index + i]) for i in range(2))
    corners = level_set.xy[begin:end].cpu().numpy() * FINEST_PATCH
    size = level_set.patch_size
    color = np.array(_ROUND_COLORS[(level - 1) % len(_ROUND_COLORS)])
    drawn = (image * 0.55).astype(np.uint8)
    for x, y in corners:
        patch = image[y : y + size, x : x + size]
        if patch.size:
            drawn[y : y + size, x : x + size] = (0.62 * patch + 0.38 * color).astype(np.uint8)
    for x, y in corners if size >= 2 * FINEST_PATCH else ():
        cv2.rectangle(
            drawn, (int(x), int(y)), (int(x) + size - 1, int(y) + size - 1), color.tolist(), 1
        )
    return drawn


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
