"""mIoU against what it costs, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...files import replaced
from .protocols import Result, every_row
from .subjects import Model

SUFFIXES = ('.png', '.pdf', '.svg', '.jpg')

_MARKERS = 'os^DvPX*<>hp'


class Panel(NamedTuple):
    """An axis: where its figure comes from, its text, and the factor to the unit in it."""

    protocol: str
    figure: str
    text: str
    factor: float = 1.0


PANELS = (
    Panel('flops', 'gmacs_published', 'GFLOPs as papers count\n(less is better)'),
    Panel('inference', 'images_per_second', 'images per second\n(more is better)'),
    Panel('inference', 'memory_bytes', 'peak memory, GiB\n(less is better)', 2.0**-30),
    Panel('train', 'memory_max_bytes', 'training memory, GiB\n(less is better)', 2.0**-30),
)


def points(results: Sequence[Result], panel: Panel) -> list[tuple[Model, int, float]]:
    """Model, batch size and figure of every model with an mIoU that the panel is measured of."""
    return [
        (row.model, row.batch_size, row.figures[panel.figure] * panel.factor)
        for protocol, row in every_row(results)
        if protocol == panel.protocol and row.model.miou is not None and not row.failure
    ]


def draw(results: Sequence[Result], path: str | Path) -> None:
    """A panel for each of :data:`PANELS` that was measured, in one file.

    Raises:
        OSError: if the file cannot be written.
        ValueError: if there is nothing to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = [(panel, points(results, panel)) for panel in PANELS]
    found = [(panel, some) for panel, some in found if some]
    if not found:
        raise ValueError('nothing to plot: no model with an mIoU was measured')
    # At most three in a row, so that a page's width leaves them legible.
    across = 2 if len(found) == 4 else len(found)
    rows = -(-len(found) // across)
    labels = list(dict.fromkeys(model.label for _, some in found for model, _, _ in some))
    columns = 1 if across == 1 or max(map(len, labels)) > 40 else 2
    entries_height = 0.2 * -(-len(labels) // columns)
    size = (3.4 * across + 0.4, 3.2 * rows + 0.2 + entries_height)
    figure = Figure(figsize=size, layout='constrained')
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(rows, across, sharey=True, squeeze=False).flatten()
    for axis, (panel, some) in zip(axes, found, strict=True):
        several = len({batch for _, batch, _ in some}) > 1
        for model, batch, value in some:
            number = labels.index(model.label)
            axis.scatter(
                value,
                model.miou,
                s=60,
                color=f'C{number % 10}',
                marker=_MARKERS[number % len(_MARKERS)],
                label=model.label,
                zorder=3,
            )
            if several:
                axis.annotate(f' {batch}', (value, model.miou), va='center', fontsize=8)
        axis.set_xlabel(panel.text)
        axis.set_xlim(0, 1.15 * max(value for _, _, value in some))
        axis.margins(y=0.12)
        axis.grid(alpha=0.3)
    for axis in axes[::across]:
        axis.set_ylabel('mIoU, %')
    # One entry per model, from whichever panel has it.
    entries: dict[str, Any] = {}
    for axis in axes:
        handles, names = axis.get_legend_handles_labels()
        for handle, name in zip(handles, names, strict=True):
            entries.setdefault(name, handle)
    figure.legend(
        [entries[label] for label in labels],
        labels,
        loc='outside lower center',
        ncols=columns,
        fontsize=9,
        frameon=False,
    )
    with replaced(path) as part:
        figure.savefig(part, dpi=150)
