"""Pictures of tokens, labels and errors, and sheets of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..structures import FINEST_PATCH
from .token_view import ScoreMap, TokenCells

# RGB by side, from 4 px on, each twice the one before.
_SIZE_COLOURS = (
    (225, 50, 95),
    (245, 166, 35),
    (66, 135, 245),
    (60, 190, 150),
    (170, 90, 220),
    (240, 230, 90),
    (255, 255, 255),
)
# Cells below this side are not outlined: lines would be most of what is seen.
_LEAST_OUTLINED = 8
_WRONG, _UNKNOWN = (214, 40, 40), (0, 0, 0)
# Told apart by those who see no difference between red and green, too.
_FIRST, _SECOND = (0, 100, 220), (235, 95, 0)
_DPI = 100


@dataclass(frozen=True)
class Panel:
    """A picture with a title.

    Attributes:
        key: what it shows, by which it is chosen.
        title: above it.
        picture: ``(H, W, 3)`` uint8 RGB.
        marks: draws on matplotlib's axes over it, in its pixels.
    """

    key: str
    title: str
    picture: np.ndarray
    marks: Callable[[Any], None] | None = None


def draw_cells(image: np.ndarray, cells: TokenCells) -> np.ndarray:
    """An image as its tokens cut it.

    Chosen cells have the colour of their size and the rest is dark; of a mosaic each cell has
    its mean colour; what is halted is black.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        cells: with an owner for each of its pixels.
    """
    owner, marked = cells.owner, cells.owner >= 0
    sides = np.append(cells.sides, 0)
    outlined = _outlines(owner, sides[owner])
    colours = np.array([_size_colour(side) for side in sides])[owner]
    if cells.kind == 'halted':
        return _painted(image, ~marked, (0, 0, 0))
    if cells.kind in ('mosaic', 'points'):
        drawn = _means(image, owner, len(cells.sides))
        # Points have no size of their own: dark lines on bright cells, bright ones on dark.
        plain = np.where(drawn.mean(2, keepdims=True) > 90, 0.6 * drawn, 0.7 * drawn + 60)
        lines = plain if cells.kind == 'points' else 0.4 * drawn + 0.6 * colours
        return np.where(outlined[..., None], lines, drawn).astype(np.uint8)
    mixed = np.where(marked[..., None], 0.6 * image + 0.4 * colours, 0.5 * image)
    return np.where(outlined[..., None], colours, mixed).astype(np.uint8)


def draw_scores(image: np.ndarray, scores: ScoreMap) -> tuple[np.ndarray, str]:
    """Scores as colours from dark to bright over a dark image, and the range in words."""
    from matplotlib import colormaps

    values = scores.values
    known = np.isfinite(values)
    if not known.any():
        return _grey(image, 0.25).astype(np.uint8), 'none'
    # Scores are shares: whatever is predicted below 0 means 0.
    low, high = max(float(values[known].min()), 0.0), float(values[known].max())
    spread = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    heat = 255 * colormaps['inferno'](np.nan_to_num(spread))[..., :3]
    mixed = np.where(known[..., None], 0.95 * heat + 0.05 * image, _grey(image, 0.25))
    return mixed.astype(np.uint8), f'{low:.2g} to {max(high, low):.2g}'


def draw_labels(
    labels: np.ndarray, palette: Sequence[Sequence[int]], image: np.ndarray | None = None
) -> np.ndarray:
    """Class indices ``(H, W)`` in their colours, indices beyond the palette black.

    Args:
        labels: class indices.
        palette: RGB of every class.
        image: ``(H, W, 3)`` uint8 that shines through, if given.
    """
    table = np.zeros((256, 3), dtype=np.uint8)
    colours = np.asarray(palette, dtype=np.uint8)[:256]
    table[: len(colours)] = colours
    drawn = table[np.clip(labels, 0, 255).astype(np.uint8)]
    return drawn if image is None else (0.75 * drawn + 0.25 * image).astype(np.uint8)


def draw_errors(image: np.ndarray, wrong: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Wrong pixels red, those without a label black, on a pale image."""
    return _painted(_painted(_pale(image), wrong, _WRONG), unknown, _UNKNOWN)


def draw_two(image: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Some pixels blue, others orange, on a pale image."""
    return _painted(_painted(_pale(image), first, _FIRST), second, _SECOND)


def class_legend(
    labels: Sequence[np.ndarray],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    at_most: int = 16,
) -> list[tuple[str, Sequence[int]]]:
    """Name and colour of the classes that cover most of some label maps, in their own order."""
    counts = sum(np.bincount(one.ravel().astype(np.int64), minlength=256)[:256] for one in labels)
    counts = np.asarray(counts)[: len(classes)]
    most = np.argsort(-counts, kind='stable')[:at_most]
    return [(classes[number], palette[number]) for number in sorted(most) if counts[number]]


def render(
    rows: Sequence[Sequence[Panel]],
    legend: Sequence[tuple[str, Sequence[int]]] = (),
    panel_width: int | None = None,
) -> Any:
    """Rows of panels as a matplotlib figure; a pixel of the figure is one of the panels.

    Args:
        rows: all panels are drawn equally wide.
        legend: names and RGB colours below them.
        panel_width: in pixels; chosen by :func:`natural_width` if not given.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    width = panel_width or natural_width(rows[0][0].picture.shape[1])
    # A sheet is often seen at half its size: text must bear that.
    font = min(max(width // 24, 10), 30)
    caption, gap = round(1.6 * font), max(width // 60, 4)
    heights = [
        max(round(width * panel.picture.shape[0] / panel.picture.shape[1]) for panel in row)
        for row in rows
    ]
    across = max(map(len, rows))
    total_width = across * (width + gap) + gap
    columns = max(total_width // (11 * font), 1)
    entries = caption * -(-len(legend) // columns) + (gap if legend else 0)
    total_height = sum(height + caption for height in heights) + gap + entries
    figure = Figure(figsize=(total_width / _DPI, total_height / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)
    points = font * 72 / _DPI
    top = 0
    for row, row_height in zip(rows, heights, strict=True):
        for number, panel in enumerate(row):
            height = round(width * panel.picture.shape[0] / panel.picture.shape[1])
            left, bottom = gap + number * (width + gap), total_height - top - caption - height
            box = (
                left / total_width,
                bottom / total_height,
                width / total_width,
                height / total_height,
            )
            axes = figure.add_axes(box)
            axes.imshow(panel.picture, aspect='auto')
            axes.set_axis_off()
            axes.set_title(panel.title, fontsize=points, pad=0.25 * points)
            if panel.marks is not None:
                panel.marks(axes)
        top += row_height + caption
    if legend:
        handles = [
            Patch(facecolor=_unit_colour(colour), edgecolor='black', label=name)
            for name, colour in legend
        ]
        figure.legend(
            handles=handles, loc='lower center', ncols=columns, fontsize=points, frameon=False
        )
    return figure


def natural_width(width: int) -> int:
    """A panel's width for an image's: itself, a multiple of it if small, at most 800."""
    return 800 if width > 800 else width * max(round(440 / width), 1)


def save(figure: Any, path: str | Path) -> None:
    """Write a figure as a PNG file in as many pixels as it was made for."""
    figure.savefig(path, dpi=_DPI, format='png')


def _outlines(owner: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Where cells that are large enough begin, and where they end beside others, ``(H, W)`` bool.

    Args:
        owner: see :class:`~.token_view.TokenCells`.
        sides: ``(H, W)`` of every pixel's cell, 0 where there is none.
    """
    large = sides >= _LEAST_OUTLINED
    edges = np.zeros(owner.shape, dtype=bool)
    for axis in (0, 1):
        # Views: what is marked in them is marked in the whole.
        own, marked, big = (np.moveaxis(one, axis, 0) for one in (owner, edges, large))
        differ = own[1:] != own[:-1]
        marked[1:] |= differ & big[1:]
        marked[:-1] |= differ & big[:-1] & ~big[1:]
    return edges


def _means(image: np.ndarray, owner: np.ndarray, count: int) -> np.ndarray:
    """Every cell in its mean colour, ``(H, W, 3)`` float; no cell is black."""
    flat = owner.ravel() + 1
    pixels = np.maximum(np.bincount(flat, minlength=count + 1), 1)
    channels = [
        np.bincount(flat, image[..., channel].ravel(), count + 1) / pixels for channel in range(3)
    ]
    table = np.stack(channels, -1)
    table[0] = 0
    return table[flat].reshape(*owner.shape, 3)


def _unit_colour(colour: Sequence[int]) -> tuple[float, float, float]:
    red, green, blue = (value / 255 for value in colour)
    return red, green, blue


def _size_colour(side: int) -> tuple[int, int, int]:
    rank = max(int(side) // FINEST_PATCH, 1).bit_length() - 1
    return _SIZE_COLOURS[min(rank, len(_SIZE_COLOURS) - 1)]


def _grey(image: np.ndarray, brightness: float) -> np.ndarray:
    return brightness * image.mean(2, keepdims=True).repeat(3, 2)


def _pale(image: np.ndarray) -> np.ndarray:
    return (_grey(image, 0.5) + 127).astype(np.uint8)


def _painted(image: np.ndarray, where: np.ndarray, colour: Sequence[int]) -> np.ndarray:
    drawn = image.copy()
    drawn[where] = colour
    return drawn
