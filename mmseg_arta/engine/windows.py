"""Which part of the image every forward pass of slide inference saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..models.segmentors.windows import slide_corners
from ..models.token_reduction import ReducedTokens
from .token_slices import Tokens, batch_size_of, split_images


class Window(NamedTuple):
    """Tokens of one window of every image and the top-left corner of it, in input pixels.

    They are :data:`Tokens`; which of the two is known to whoever chose the backbone.
    """

    tokens: Any
    top: int
    left: int


def windows_of(
    passes: Sequence[Tokens],
    samples: Sequence[Any],
    test_cfg: Mapping[str, Any] | None,
    tell: Callable[[str], None] | None = None,
) -> list[Window] | None:
    """What the forward passes of a test batch saw.

    Args:
        passes: tokens of the passes since the last batch. A pass may hold several windows, one
            after the other, each of all images.
        samples: the batch's results.
        test_cfg: the segmentor's, for slide inference.
        tell: is told why it cannot be told.

    Returns:
        Windows in the order of slide inference, one for whole images; None if that cannot be
        told, as with test-time augmentation.
    """
    found = _windows_or_reason(passes, samples, test_cfg)
    if not isinstance(found, str):
        return found
    if tell is not None:
        tell(found)
    return None


def _windows_or_reason(
    passes: Sequence[Tokens], samples: Sequence[Any], test_cfg: Mapping[str, Any] | None
) -> list[Window] | str:
    images = len(samples)
    if not passes:
        return 'no forward pass of the backbone was seen'
    if len(passes) == 1 and (not samples or batch_size_of(passes[0]) == images):
        return [Window(passes[0], 0, 0)]
    ran = f'the backbone ran {len(passes)} times for {images} images'
    if not samples or test_cfg is None or test_cfg.get('mode') != 'slide':
        return f'{ran} without slide inference, as with test-time augmentation'
    sizes = [batch_size_of(tokens) for tokens in passes]
    if any(size % images for size in sizes):
        return f'{ran}, on batches of {sizes}, which are no windows of all images'
    meta = samples[0].metainfo
    size = tuple(meta.get('pad_shape', meta['img_shape'])[:2])
    crop = tuple(test_cfg['crop_size'])
    corners = slide_corners(size, crop, tuple(test_cfg['stride']))
    windows = [part for tokens in passes for part in split_images(tokens, images)]
    seen = tuple(min(pair) for pair in zip(size, crop, strict=True))
    others = sorted({_size_of(tokens) for tokens in windows} - {seen})
    if len(corners) != len(windows) or others:
        return (
            f'{ran} of {size} (height, width), which have {len(corners)} windows of {seen}, and '
            f'saw {len(windows)} of {", ".join(map(str, others or [seen]))}, as with test-time '
            'augmentation'
        )
    return [Window(tokens, *corner) for tokens, corner in zip(windows, corners, strict=True)]


def _size_of(tokens: Tokens) -> tuple[int, int]:
    """Height and width in pixels of what a pass saw."""
    return (tokens.layout if isinstance(tokens, ReducedTokens) else tokens).image_size
