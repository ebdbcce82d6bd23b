"""Procedural street scenes with a label for every pixel."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from .layouts import IGNORED, Cast
from .textures import PARTS, paint, rare_style

Points = list[tuple[float, float]]


class _Canvas:
    """Collects shapes back to front: later shapes cover earlier ones."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.ids = np.zeros((height, width), np.int32)
        self.shapes: list[tuple[str, int]] = []

    def begin(self, part: str, label: int) -> int:
        self.shapes.append((part, label))
        return len(self.shapes) - 1

    def polygon(self, shape: int, points: Points) -> None:
        cv2.fillPoly(self.ids, [np.rint(points).astype(np.int32)], shape)

    def box(self, shape: int, left: float, top: float, right: float, bottom: float) -> None:
        self.polygon(shape, [(left, top), (right, top), (right, bottom), (left, bottom)])

    def ellipse(self, shape: int, x: float, y: float, rx: float, ry: float) -> None:
        turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        self.polygon(shape, list(zip(x + rx * np.cos(turn), y + ry * np.sin(turn), strict=True)))

    def line(self, shape: int, points: Points, thickness: float) -> None:
        path = np.rint(points).astype(np.int32)
        cv2.polylines(self.ids, [path], False, shape, max(1, round(thickness)))


def make_scene(
    cast: Cast, size: tuple[int, int], rare: tuple[int, ...], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one scene.

    Args:
        cast: Class index of every part of the scene.
        size: Height and width in pixels.
        rare: Classes to place as small objects in this scene.
        rng: The only source of chance.

    Returns:
        Image (H, W, 3), uint8 RGB, and label map (H, W), uint8: class index, or 255 where the
        pixel is ignored.
    """
    height, width = size
    canvas = _Canvas(height, width)
    horizon = height * rng.uniform(0.42, 0.58)
    unit = max(1.0, min(size) / 100)
    _background(canvas, cast, horizon, rng)
    _skyline(canvas, cast, horizon, unit, rng)
    if rng.random() < 0.5:
        _fence(canvas, cast, horizon, unit, rng)
    if rng.random() < 0.75:
        _poles(canvas, cast, horizon, unit, rng)
    _traffic(canvas, cast, horizon, unit, rng)
    for label in rare:
        _rare_object(canvas, label, horizon, unit, rng)
    _ignored(canvas, unit, rng)
    return _render(canvas, unit, rng)


def _background(canvas: _Canvas, cast: Cast, horizon: float, rng: np.random.Generator) -> None:
    width, height = canvas.width, canvas.height
    canvas.box(canvas.begin('sky', cast.sky), 0, 0, width, height)
    if rng.random() < 0.6:
        x = np.linspace(0, width, 33)
        waves = sum(
            rng.uniform(0.01, 0.05) * height * np.sin(x / width * k * 6 + rng.uniform(0, 6.3))
            for k in (0.5, 1.1, 2.3)
        )
        ridge = horizon - rng.uniform(0.1, 0.2) * height + waves
        # where a layout has no class for hills, woods stand at the horizon
        hill = canvas.begin('tree' if cast.hill == cast.tree else 'hill', cast.hill)
        canvas.polygon(hill, [*zip(x, ridge, strict=True), (width, height), (0, height)])
    canvas.box(canvas.begin('verge', cast.verge), 0, horizon, width, height)
    # the road runs to a vanishing point, as in pictures taken from a car
    far, near = width * rng.uniform(0.35, 0.65), width * rng.uniform(0.3, 0.7)
    narrow, wide = width * rng.uniform(0.02, 0.06), width * rng.uniform(0.3, 0.5)
    canvas.polygon(
        canvas.begin('road', cast.road),
        [(far - narrow, horizon), (far + narrow, horizon), (near + wide, height - 1),
         (near - wide, height - 1)],
    )  # fmt: skip


def _skyline(
    canvas: _Canvas, cast: Cast, horizon: float, unit: float, rng: np.random.Generator
) -> None:
    width, height = canvas.width, canvas.height
    for _ in range(rng.integers(1, 4)):
        left, wide = width * rng.uniform(-0.1, 0.85), width * rng.uniform(0.12, 0.35)
        top, bottom = horizon - height * rng.uniform(0.12, 0.38), horizon + height * 0.03
        building = canvas.begin('building', cast.building)
        canvas.box(building, left, top, left + wide, bottom)
        if rng.random() < 0.5:
            gable = (left + wide / 2, top - height * rng.uniform(0.05, 0.12))
            canvas.polygon(building, [(left, top), gable, (left + wide, top)])
    for _ in range(rng.integers(1, 4)):
        x, radius = width * rng.uniform(0, 1), min(width, height) * rng.uniform(0.06, 0.15)
        foot = horizon + height * rng.uniform(0.02, 0.1)
        y = foot - radius * rng.uniform(1.6, 2.4)
        tree = canvas.begin('tree', cast.tree)
        canvas.line(tree, [(x, y), (x, foot)], 1.6 * unit)
        for _ in range(7):
            dx, dy = rng.uniform(-0.7, 0.7, 2) * radius
            canvas.ellipse(tree, x + dx, y + dy, *(radius * rng.uniform(0.4, 0.8, 2)))


def _fence(
    canvas: _Canvas, cast: Cast, horizon: float, unit: float, rng: np.random.Generator
) -> None:
    width, height = canvas.width, canvas.height
    left, wide = width * rng.uniform(-0.1, 0.6), width * rng.uniform(0.25, 0.6)
    foot, tall = horizon + height * rng.uniform(0.03, 0.1), height * rng.uniform(0.06, 0.1)
    fence = canvas.begin('fence', cast.fence)
    for rail in (0.35, 0.85):
        y = foot - rail * tall
        canvas.line(fence, [(left, y), (left + wide, y)], 1.2 * unit)
    for x in np.arange(left, left + wide, 5 * unit):
        canvas.line(fence, [(x, foot), (x, foot - tall)], 1.2 * unit)


def _poles(
    canvas: _Canvas, cast: Cast, horizon: float, unit: float, rng: np.random.Generator
) -> None:
    width, height = canvas.width, canvas.height
    poles = canvas.begin('pole', cast.pole)
    tops: Points = []
    x = width * rng.uniform(0.05, 0.3)
    while x < width:
        foot, top = horizon + height * rng.uniform(0.04, 0.2), height * rng.uniform(0.06, 0.25)
        canvas.line(poles, [(x, foot), (x, top)], rng.uniform(1.0, 2.4) * unit)
        canvas.line(poles, [(x - 4 * unit, top), (x + 4 * unit, top)], unit)
        tops.append((x, top))
        if rng.random() < 0.5:
            middle, radius = foot + (top - foot) * rng.uniform(0.35, 0.7), 4.5 * unit
            sign = canvas.begin('sign', cast.sign)
            if rng.random() < 0.5:
                canvas.ellipse(sign, x, middle, radius, radius)
            else:
                canvas.box(sign, x - radius, middle - radius, x + radius, middle + radius)
        x += width * rng.uniform(0.18, 0.45)
    if rng.random() < 0.6:
        along = np.linspace(0, 1, 17)
        for (x0, y0), (x1, y1) in pairwise(tops):
            sag = height * 0.06 * 4 * along * (1 - along)
            wire = zip(x0 + (x1 - x0) * along, y0 + (y1 - y0) * along + sag, strict=True)
            canvas.line(poles, list(wire), 0.6 * unit)


def _traffic(
    canvas: _Canvas, cast: Cast, horizon: float, unit: float, rng: np.random.Generator
) -> None:
    width, height = canvas.width, canvas.height
    # far things first, so that near ones cover them; the nearer, the larger
    for depth in np.sort(rng.uniform(0.1, 0.8, rng.integers(1, 4))):
        x, foot = width * rng.uniform(0.1, 0.9), horizon + depth * (height - horizon)
        long, tall = width * (0.06 + 0.14 * depth), height * (0.05 + 0.1 * depth)
        car = canvas.begin('car', cast.car)
        canvas.box(car, x - long / 2, foot - tall * 0.6, x + long / 2, foot)
        canvas.polygon(
            car,
            [(x - 0.32 * long, foot - 0.55 * tall), (x - 0.2 * long, foot - tall),
             (x + 0.2 * long, foot - tall), (x + 0.32 * long, foot - 0.55 * tall)],
        )  # fmt: skip
    for depth in np.sort(rng.uniform(0.1, 0.7, rng.integers(0, 4))):
        x, foot = width * rng.uniform(0, 1), horizon + depth * (height - horizon)
        tall = height * (0.1 + 0.2 * depth)
        person = canvas.begin('person', cast.person)
        canvas.ellipse(person, x, foot - 0.62 * tall, 0.13 * tall, 0.24 * tall)
        canvas.ellipse(person, x, foot - 0.92 * tall, 0.08 * tall, 0.09 * tall)
        for side in (-0.08, 0.08):
            hip, heel = (x + side * tall / 2, foot - 0.45 * tall), (x + side * tall, foot)
            canvas.line(person, [hip, heel], 0.06 * tall)


def _rare_object(
    canvas: _Canvas, label: int, horizon: float, unit: float, rng: np.random.Generator
) -> None:
    # never smaller than a few pixels, so that the class is there at any image size
    radius = max(3.0, min(canvas.height, canvas.width) * rng.uniform(0.05, 0.1))
    x = rng.uniform(radius, canvas.width - radius)
    y = horizon + rng.uniform(0.15, 0.6) * (canvas.height - horizon)
    shape = canvas.begin('rare', label)
    corners = int(rng.integers(3, 7))
    turn = rng.uniform(0, 6.3) + np.arange(corners) * 2 * np.pi / corners
    canvas.polygon(
        shape, list(zip(x + radius * np.cos(turn), y + radius * np.sin(turn), strict=True))
    )


def _ignored(canvas: _Canvas, unit: float, rng: np.random.Generator) -> None:
    """A strip along the bottom, as of the camera's own car, or a spot nobody annotated."""
    ignored = canvas.begin('ignored', IGNORED)
    width, height = canvas.width, canvas.height
    if rng.random() < 0.5:
        x, arch = np.linspace(0, width, 17), np.sin(np.linspace(0, np.pi, 17))
        top = height - 2 - height * rng.uniform(0.02, 0.07) * arch
        canvas.polygon(ignored, [*zip(x, top, strict=True), (width, height), (0, height)])
    else:
        radius = 5 * unit
        x, y = rng.uniform(0.1, 0.9, 2) * (width, height)
        canvas.ellipse(ignored, x, y, radius * rng.uniform(0.6, 1.6), radius)


def _render(
    canvas: _Canvas, unit: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    image = np.zeros((canvas.height, canvas.width, 3), np.float32)
    for shape, (part, label) in enumerate(canvas.shapes):
        style = rare_style(label) if part == 'rare' else PARTS[part]
        paint(image, canvas.ids == shape, style, unit, rng)
    # a lens blurs edges a little, light falls off to one side, a sensor adds noise
    image = cv2.GaussianBlur(image, (3, 3), 0.6)
    slope = rng.uniform(-0.12, 0.12, 2)
    light = rng.uniform(0.88, 1.1) + (
        np.linspace(-slope[0], slope[0], canvas.height)[:, None]
        + np.linspace(-slope[1], slope[1], canvas.width)[None]
    )
    image = image * light[..., None] + rng.normal(0, 3, image.shape)
    labels = np.array([label for _, label in canvas.shapes], np.uint8)[canvas.ids]
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), labels
