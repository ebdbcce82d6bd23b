"""One class, and two classes in one channel: what class scores become for stock code."""

from __future__ import annotations

import math

from torch import Tensor

from ...option_checks import MOST_CHANNELS, check_whole

#: Stock post-processing of a single channel compares the sigmoid of the score with a threshold: a
#: score of a half is where the class begins.
SCORE_THRESHOLD = 1 / (1 + math.exp(-0.5))


def check_out_channels(name: str, num_classes: int, out_channels: int | None) -> int:
    """Channels of a head's prediction.

    Args:
        name: of the head.
        num_classes: of the data set, at least 1.
        out_channels: None for one per class; 1 for two classes in one channel.

    Raises:
        ValueError: for anything else.
    """
    check_whole(name, most=MOST_CHANNELS, num_classes=num_classes)
    check_whole(name, most=MOST_CHANNELS, optional=True, out_channels=out_channels)
    if out_channels in (None, num_classes):
        return num_classes
    if (out_channels, num_classes) != (1, 2):
        raise ValueError(
            f'{name}.out_channels must be num_classes, {num_classes}, or 1 with num_classes=2 '
            f'(binary segmentation), found {out_channels}'
        )
    return 1


def to_channels(scores: Tensor, out_channels: int) -> Tensor:
    """Class scores ``(B, classes, H, W)`` as ``(B, out_channels, H, W)``.

    Two classes in one channel are the second one's share of both, a half where neither has a score.
    """
    if scores.shape[1] == out_channels:
        return scores
    first, second = scores.float().clamp(min=0).split(1, 1)
    # So small that it decides nothing but a division by zero.
    least = 1e-12
    return (second + least) / (first + second + 2 * least)
