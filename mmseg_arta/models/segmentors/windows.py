"""Where the windows of slide inference lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...option_checks import check_wholes


def check_window_options(test_cfg: Mapping[str, Any]) -> None:
    """Raise ValueError unless windows are of ``(height, width)`` pixels, and their stride as well.

    A stride of 0 would divide by zero after the model is built and its images are read.

    Args:
        test_cfg: of a segmentor with slide inference: its ``crop_size`` and ``stride``.
    """
    check_wholes('test_cfg', counts=2, crop_size=test_cfg.get('crop_size'))
    check_wholes('test_cfg', counts=2, stride=test_cfg.get('stride'))


def slide_corners(
    size: tuple[int, int], crop: tuple[int, int], stride: tuple[int, int]
) -> list[tuple[int, int]]:
    """Top-left corners ``(top, left)`` of the windows of mmseg's slide inference, in its order.

    Args:
        size: ``(height, width)`` of the input.
        crop: ``(height, width)`` of a window.
        stride: ``(vertical, horizontal)`` step.
    """
    starts = []
    for side, window, step in zip(size, crop, stride, strict=True):
        count = max(side - window + step - 1, 0) // step + 1
        # The last window is moved back into the image.
        starts.append([max(min(i * step + window, side) - window, 0) for i in range(count)])
    return [(top, left) for top in starts[0] for left in starts[1]]
