"""mIoU against what it costs, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..files import replaced
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
    Panel('flops', 'gmacs_published', 'GFLOPs, as papers count (less is better)'),
    Panel('inference', 'images_per_second', 'images per second (more is better)'),
    Panel('inference', 'memory_bytes', 'peak memory, GiB (less is better)', 2.0**-30),
    Panel('train', 'memory_max_bytes', 'training memory, GiB (less is better)', 2.0**-30),
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
    figure = Figure(figsize=(4.2 * len(found) + 0.6, 4.4), layout='constrained')
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    labels = list(dict.fromkeys(model.label for _, some in found for model, _, _ in some))
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
        axis.set_xlim(left=0)
        axis.margins(0.12)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel('mIoU, %')
    # One entry per model, from whichever panel has it.
    entries: dict[str, Any] = {}
    for axis in axes:
        handles, names = axis.get_legend_handles_labels()
        for handle, name in zip(handles, names, strict=True):
            entries.setdefault(name, handle)
    columns = min(len(labels), max(1, len(found)))
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
