"""mIoU against operations, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...files import replaced
from .results import labels_of, summaries

_MARKERS = 'os^DvPX*<>hp'
# From this ratio of the most operations to the fewest on, the axis is logarithmic.
_FAR = 4
# Where a name may stand beside its point: offset in points and alignment.
_PLACES = (
    # Deviations go straight up, down, left and right.
    (6, 5, 'left', 'bottom'),
    (6, -5, 'left', 'top'),
    (-6, 5, 'right', 'bottom'),
    (-6, -5, 'right', 'top'),
    (0, 9, 'center', 'bottom'),
    (0, -9, 'center', 'top'),
    (9, 0, 'left', 'center'),
    (-9, 0, 'right', 'center'),
)


def draw(results: Mapping[str, Any], path: str | Path) -> bool:
    """A point per config, with its deviations and its name; False if there is none to draw.

    Raises:
        OSError: if the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    every = summaries(results)
    labels = labels_of(every)
    found = [one for one in every if {'gmacs_whole', 'miou_whole'} <= set(one.means)]
    if not found:
        return False
    figure = Figure(figsize=(8, 5.5), layout='constrained')
    canvas = FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    for number, one in enumerate(found):
        axes.errorbar(
            one.means['gmacs_whole'],
            one.means['miou_whole'],
            xerr=one.means.get('gmacs_std_whole') or None,
            yerr=one.spreads.get('miou_whole'),
            fmt=_MARKERS[number % len(_MARKERS)],
            color=f'C{number % 10}',
            capsize=2,
            elinewidth=1,
        )
    operations = [one.means['gmacs_whole'] for one in found]
    if 0 < _FAR * min(operations) < max(operations):
        # One model of many operations would press all others together.
        axes.set_xscale('log')
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
        axes.xaxis.set_major_formatter('{x:g}')
        axes.xaxis.set_minor_formatter('')
    axes.set_xlabel('GMACs per image (less is better)')
    axes.set_ylabel('mIoU of whole images, % (more is better)')
    axes.margins(x=0.2, y=0.12)
    axes.grid(alpha=0.3)
    # Where things lie is known only once they are drawn.
    canvas.draw()
    _name(axes, [(labels[one.key], one) for one in found], canvas.get_renderer())
    with replaced(path) as part:
        figure.savefig(part, dpi=150)
    return True


def _name(axes: Any, points: Sequence[tuple[str, Any]], renderer: Any) -> None:
    """Put every name where it hides least: no other name, no point, inside the axes."""
    taken: list[Any] = []
    places = [(one.means['gmacs_whole'], one.means['miou_whole']) for _, one in points]
    pixels = axes.transData.transform(places)
    inside = axes.get_window_extent(renderer)
    for (label, _), place in zip(points, places, strict=True):
        tried = []
        for right, up, across, along in _PLACES:
            text = axes.annotate(
                label,
                place,
                (right, up),
                textcoords='offset points',
                ha=across,
                va=along,
                fontsize=8,
            )
            box = text.get_window_extent(renderer)
            hidden = sum(box.overlaps(other) for other in taken)
            hidden += sum(box.contains(*pixel) for pixel in pixels)
            hidden += 2 * (not (inside.x0 <= box.x0 and box.x1 <= inside.x1))
            tried.append((hidden, len(tried), text, box))
        best = min(tried, key=lambda one: one[:2])
        taken.append(best[3])
        for one in tried:
            if one is not best:
                one[2].remove()
