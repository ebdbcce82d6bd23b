"""Points of :func:`~mmseg_arta.analysis.budget.measure` as a table, as numbers and as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...files import replaced
from .curve import Point

#: What stands for each choice.
NAMES = {'model': "the model's own policy", 'scores': 'highest scores', 'random': 'at random'}

_HEAD = ('chosen by', 'of all tokens', 'tokens', 'GMACs', 'ms', 'mIoU', 'within 4 px')


def cells(point: Point) -> list[str]:
    """Of a point's row."""
    return [
        NAMES[point.choice],
        f'{100 * point.share:.0f} %',
        f'{point.tokens:.0f}',
        f'{point.gmacs:.2f}',
        '–' if math.isnan(point.ms) else f'{point.ms:.0f}',
        f'{point.miou:.2f}',
        f'{point.near:.2f}',
    ]


def line(point: Point | None) -> str:
    """A row for the terminal; the heading for None."""
    first, *rest = _HEAD if point is None else cells(point)
    return f'{first:24}' + ''.join(f'{cell:>14}' for cell in rest)


def markdown(points: Sequence[Point]) -> str:
    """A table."""
    rows = [_HEAD, ['---', *['---:'] * (len(_HEAD) - 1)], *map(cells, points)]
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows) + '\n'


def plain(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Plain numbers, for JSON, which has no NaN."""
    rows = [asdict(point) for point in points]
    return [
        {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in row.items()
        }
        for row in rows
    ]


def draw(points: Sequence[Point], path: str | Path) -> None:
    """mIoU against operations: a line per choice, a star for the model's own policy.

    Raises:
        OSError: if the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout='constrained')
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    for number, choice in enumerate(dict.fromkeys(point.choice for point in points)):
        own = [point for point in points if point.choice == choice]
        own.sort(key=lambda point: point.gmacs)
        axes.plot(
            [point.gmacs for point in own],
            [point.miou for point in own],
            '*' if choice == 'model' else 'o-',
            markersize=14 if choice == 'model' else 5,
            color='black' if choice == 'model' else f'C{number}',
            # The model's own choice lies on a line, as a rule.
            zorder=3 if choice == 'model' else 2,
            label=NAMES[choice],
        )
    axes.set_xlabel('GMACs per image')
    axes.set_ylabel('mIoU, %')
    axes.grid(alpha=0.3)
    axes.legend()
    with replaced(path) as part:
        figure.savefig(part, dpi=150)
