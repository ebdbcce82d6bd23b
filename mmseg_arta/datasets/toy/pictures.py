"""Procedural pictures of one object each, with one label per image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .textures import PARTS, paint, rare_style

_BACKGROUNDS = ('sky', 'hill', 'tree', 'road', 'verge')


@dataclass(frozen=True)
class ImageLayout:
    """A classification data set's folders and classes.

    Images lie in ``SPLIT/FOLDER OF THE CLASS/``; ``meta/SPLIT.txt`` names each with its label, so
    that a data set class need not look for as many folders as it has classes.

    Attributes:
        classes: Labels and their folders, in the order of both.
        image_suffix: Ending of image files.
    """

    classes: dict[int, str]
    image_suffix: str


IMAGE_LAYOUTS: dict[str, ImageLayout] = {
    # ImageNet-1K; labels below 1000 are labels of mmpretrain's ImageNet21k as well.
    'imagenet': ImageLayout(
        classes={
            0: 'n01440764',
            2: 'n01484850',
            207: 'n02099601',
            281: 'n02123045',
            340: 'n02391049',
            407: 'n02701002',
            554: 'n03344393',
            717: 'n03930630',
            817: 'n04285008',
            999: 'n15075141',
        },
        image_suffix='.JPEG',
    ),
}


def make_picture(label: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw an object whose shape, colour and pattern tell its class.

    Args:
        label: Class of the object.
        size: Height and width in pixels.
        rng: The only source of chance.

    Returns:
        Image (H, W, 3), uint8 RGB.
    """
    height, width = size
    unit = max(1.0, min(size) / 100)
    image = np.zeros((height, width, 3), np.float32)
    ground = PARTS[_BACKGROUNDS[rng.integers(len(_BACKGROUNDS))]]
    paint(image, np.ones((height, width), bool), ground, unit, rng)

    radius = min(size) * rng.uniform(0.25, 0.42)
    x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
    corners = 3 + label % 5
    turn = rng.uniform(0, 2 * np.pi) + np.arange(corners) * 2 * np.pi / corners
    outline = np.stack((x + radius * np.cos(turn), y + radius * np.sin(turn)), 1)
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.rint(outline).astype(np.int32)], 1)
    paint(image, mask > 0, rare_style(label), unit, rng)
    image = cv2.GaussianBlur(image, (3, 3), 0.6) + rng.normal(0, 3, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
