"""Pictures of superpatches and halted tokens, as STEP's figures 3, 7 and 8."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from mmengine.model import BaseModel
from torch import Tensor

from ..models.token_reduction import ReducedTokens

#: Outlines of superpatches by size, in BGR; the larger, the warmer.
_COLOURS = {1: (160, 160, 160), 2: (220, 200, 60), 4: (80, 200, 80), 8: (40, 160, 250)}
_LARGEST = (60, 60, 230)


@torch.no_grad()
def token_picture(
    model: BaseModel,
    image: Tensor,
    tokens: ReducedTokens,
    palette: Sequence[Sequence[int]],
    number: int = 0,
) -> np.ndarray:
    """Panels from left to right: image, superpatches, halted tokens per head, segmentation.

    Args:
        model: the segmentor.
        image: ``(B, 3, H, W)`` the backbone's input.
        tokens: its output.
        palette: RGB colour of every class.
        number: which image of the batch.

    Returns:
        ``(H, panels * W, 3)`` uint8 in BGR; halted tokens are black.
    """
    shown = _pixels(model, image[number])
    layout = tokens.layout
    own = (layout.batch_index() == number).cpu().numpy()
    places = layout.places.cpu().numpy()[own] * layout.patch_size
    sides = layout.sizes.cpu().numpy()[own] * layout.patch_size
    panels = [shown, _outlined(shown, places, sides, layout.patch_size)]
    first = int(np.flatnonzero(own)[0])
    for halt in tokens.halts:
        panel = shown.copy()
        if halt.rows is not None:
            stopped = np.ones(len(layout), dtype=bool)
            stopped[halt.rows.cpu().numpy()] = False
            for row in np.flatnonzero(stopped[first : first + len(places)]):
                (y, x), side = places[row], sides[row]
                panel[y : y + side, x : x + side] = 0
        panels.append(panel)
    classes = model.decode_head.predict(tokens, [])[number].argmax(0).cpu().numpy()
    colours = np.asarray(palette, dtype=np.uint8)[:, ::-1]
    panels.append(cv2.addWeighted(shown, 0.4, colours[classes], 0.6, 0))
    return np.concatenate(panels, 1)


def _pixels(model: BaseModel, image: Tensor) -> np.ndarray:
    """``(H, W, 3)`` uint8 in BGR of a normalised image."""
    processor = model.data_preprocessor
    image = image.float()
    if getattr(processor, '_enable_normalize', False):
        image = image * processor.std + processor.mean
    pixels = image.clamp(0, 255).permute(1, 2, 0).cpu().numpy().astype(np.uint8)
    channels = pixels[..., ::-1] if getattr(processor, '_channel_conversion', True) else pixels
    return np.ascontiguousarray(channels)


def _outlined(image: np.ndarray, places: np.ndarray, sides: np.ndarray, patch: int) -> np.ndarray:
    panel = image.copy()
    for (y, x), side in zip(places.tolist(), sides.tolist(), strict=True):
        colour = _COLOURS.get(side // patch, _LARGEST)
        cv2.rectangle(panel, (x, y), (x + side - 1, y + side - 1), colour, 1)
    return panel
