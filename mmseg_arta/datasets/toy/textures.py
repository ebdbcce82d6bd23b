"""What each part of a toy scene looks like: a colour and a pattern that tell its class."""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import cv2
import numpy as np

Grid = np.ndarray
Pattern = Callable[[Grid, Grid, float, np.random.Generator], np.ndarray]


def _noise(y: Grid, x: Grid, cell: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth random field in about [-1, 1] whose spots are ``cell`` pixels wide."""
    height, width = y.shape[0], x.shape[1]
    coarse = rng.uniform(-1, 1, (int(height / cell) + 2, int(width / cell) + 2))
    return cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)


def _plain(y: Grid, x: Grid, unit: float, rng: np.random.Generator) -> np.ndarray:
    return np.zeros((y.shape[0], x.shape[1]), np.float32)


def _clouds(y: Grid, x: Grid, unit: float, rng: np.random.Generator) -> np.ndarray:
    return 0.6 * _noise(y, x, 18 * unit, rng) + 0.3 * _noise(y, x, 7 * unit, rng)


def _leaves(y: Grid, x: Grid, unit: float, rng: np.random.Generator) -> np.ndarray:
    return 0.8 * _noise(y, x, 2.2 * unit, rng) + 0.4 * _noise(y, x, 7 * unit, rng)


def _grain(y: Grid, x: Grid, unit: float, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-1, 1, (y.shape[0], x.shape[1])).astype(np.float32)


def _windows(y: Grid, x: Grid, unit: float, rng: np.random.Generator) -> np.ndarray:
    inside = (y / (8 * unit) % 1 > 0.4) & (x / (6 * unit) % 1 > 0.45)
    return np.where(inside, -1.0, 0.3).astype(np.float32)


def _tiles(y: Grid, x: Grid, unit: float, rng: np.random.Generator) -> np.ndarray:
    odd = (np.floor(y / (4 * unit)) + np.floor(x / (4 * unit))) % 2
    return (2 * odd - 1).astype(np.float32)


def _stripes(y: Grid, x: Grid, unit: float, rng: np.random.Generator) -> np.ndarray:
    return np.sin((x + y) * (2 * np.pi / (6 * unit))).astype(np.float32)


def _dots(y: Grid, x: Grid, unit: float, rng: np.random.Generator) -> np.ndarray:
    period = 5 * unit
    inside = (y % period - period / 2) ** 2 + (x % period - period / 2) ** 2 < (1.6 * unit) ** 2
    return np.where(inside, 1.0, -0.3).astype(np.float32)


# part of the scene: RGB colour, pattern, strength of the pattern in grey levels
PARTS: dict[str, tuple[tuple[int, int, int], Pattern, float]] = {
    'sky': ((150, 195, 235), _clouds, 22),
    'hill': ((96, 128, 118), _clouds, 14),
    'building': ((176, 116, 92), _windows, 42),
    'tree': ((52, 108, 44), _leaves, 34),
    'road': ((104, 102, 108), _grain, 9),
    'verge': ((186, 178, 150), _tiles, 12),
    'fence': ((226, 214, 196), _plain, 0),
    'pole': ((58, 56, 66), _plain, 0),
    'sign': ((226, 176, 30), _dots, 30),
    'car': ((40, 70, 170), _plain, 0),
    'person': ((196, 48, 66), _stripes, 26),
    'ignored': ((20, 18, 22), _grain, 14),
}
_RARE_PATTERNS: tuple[Pattern, ...] = (_stripes, _dots, _tiles, _leaves, _plain)


def rare_style(label: int) -> tuple[tuple[int, int, int], Pattern, float]:
    """Style of a rare class: neighbours in the numbering differ in hue and in pattern."""
    red, green, blue = colorsys.hsv_to_rgb(label * 0.381966 % 1.0, 0.75, 0.85)
    colour = (round(255 * red), round(255 * green), round(255 * blue))
    return colour, _RARE_PATTERNS[label % len(_RARE_PATTERNS)], 38.0


def paint(
    image: np.ndarray,
    mask: np.ndarray,
    style: tuple[tuple[int, int, int], Pattern, float],
    unit: float,
    rng: np.random.Generator,
) -> None:
    """Paint ``style`` into ``image`` (H, W, 3 float RGB) where ``mask`` (H, W) is set.

    ``unit`` is the length in pixels that patterns are measured in. Each call shifts the
    brightness and the tint a little, so that two buildings differ.
    """
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    # drawn also for an empty mask: what is hidden must not change the rest of the scene
    gain = rng.uniform(0.86, 1.14)
    tint = rng.uniform(-9, 9, 3)
    seed = rng.integers(2**32)
    if not width or not height:
        return
    colour, pattern, strength = style
    y, x = np.mgrid[top : top + height, :1][0], np.mgrid[:1, left : left + width][1]
    relief = pattern(y, x, unit, np.random.default_rng(seed))
    colours = np.asarray(colour, np.float32) * gain + tint + strength * relief[..., None]
    window = np.s_[top : top + height, left : left + width]
    inside = mask[window]
    image[window][inside] = colours[inside]
