"""Which part of the image every forward pass of slide inference saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..models.segmentors.windows import slide_corners
from ..models.token_reduction import ReducedTokens
from ..structures import MixedTokens

#: What backbones return that tell of their tokens.
Tokens = MixedTokens | ReducedTokens


class Window(NamedTuple):
    """Tokens of one forward pass and the top-left corner of what it saw, in input pixels.

    They are :data:`Tokens`; which of the two is known to whoever chose the backbone.
    """

    tokens: Any
    top: int
    left: int


def windows_of(
    passes: Sequence[Tokens], samples: Sequence[Any], test_cfg: Mapping[str, Any] | None
) -> list[Window] | None:
    """What every forward pass of a test batch saw.

    Args:
        passes: tokens of the passes since the last batch.
        samples: the batch's results.
        test_cfg: the segmentor's, for slide inference.

    Returns:
        One window per pass, or None if that cannot be told, as with test-time augmentation.
    """
    if len(passes) == 1:
        return [Window(passes[0], 0, 0)]
    if not passes or not samples or test_cfg is None or test_cfg.get('mode') != 'slide':
        return None
    meta = samples[0].metainfo
    size = tuple(meta.get('pad_shape', meta['img_shape'])[:2])
    crop = tuple(test_cfg['crop_size'])
    corners = slide_corners(size, crop, tuple(test_cfg['stride']))
    seen = tuple(min(pair) for pair in zip(size, crop, strict=True))
    if len(corners) != len(passes) or any(_size_of(tokens) != seen for tokens in passes):
        return None
    return [Window(tokens, *corner) for tokens, corner in zip(passes, corners, strict=True)]


def _size_of(tokens: Tokens) -> tuple[int, int]:
    """Height and width in pixels of what a pass saw."""
    return (tokens.layout if isinstance(tokens, ReducedTokens) else tokens).image_size
