"""What :func:`~mmseg_arta.analysis.tokens.analyze` found, as text, CSV files and plots."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..files import replaced
from .token_spending import Spending, SpendingRow, spending_table
from .tokens import Analysis, Spread, halting_table, merging_table


def render(analysis: Analysis) -> str:
    """Tables of tokens, of where they were spent, and of quality near boundaries."""
    columns = {name: Spread.of(values) for name, values in counts_by_kind(analysis).items()}
    if analysis.uses:
        columns['tokens'] = Spread.of([use.tokens for use in analysis.uses])
        columns['patches/token'] = Spread.of(
            [use.patches / max(use.tokens, 1) for use in analysis.uses]
        )
    columns['GMAC per image'] = Spread.of(analysis.gmacs)
    head = f'tokens per {_unit(analysis)}'
    width = max(len(name) for name in (head, *columns)) + 2
    lines = [f'{head:{width}}{"mean":>10}{"max":>10}{"min":>10}']
    for name, row in columns.items():
        lines.append(f'{name:{width}}{row.mean:10.1f}{row.max:10.1f}{row.min:10.1f}')
    rows = spending_table(spendings(analysis))
    if rows:
        lines += ['', *_spending_lines(rows)]
    if analysis.quality is not None:
        lines += ['', 'mean over classes, %']
        for name, value in analysis.quality.table().means().items():
            lines.append(f'{name:20}{value:8.2f}')
    for name, value in analysis.metrics.items():
        lines.append(f'{name}: {value:.2f}')
    return '\n'.join(lines)


def _unit(analysis: Analysis) -> str:
    return 'window' if len(analysis.images) > len(analysis.gmacs) else 'image'


def counts_by_kind(analysis: Analysis) -> dict[str, list[int]]:
    """Token counts of all images by kind; 0 where an image has none of a kind."""
    kinds = dict.fromkeys(kind for image in analysis.images for kind in image.counts)
    return {kind: [image.counts.get(kind, 0) for image in analysis.images] for kind in kinds}


def spendings(analysis: Analysis) -> list[Spending]:
    """Of all images and rounds."""
    return [one for image in analysis.images for one in image.spendings]


def summary(analysis: Analysis) -> dict[str, Any]:
    """Plain numbers, for JSON: means over images and sums over pixels."""
    result: dict[str, Any] = dict(
        images=len(analysis.gmacs),
        gmacs=sum(analysis.gmacs) / len(analysis.gmacs),
        tokens={
            kind: asdict(Spread.of(values)) for kind, values in counts_by_kind(analysis).items()
        },
        spending=[asdict(row) for row in spending_table(spendings(analysis))],
        metrics={name: float(value) for name, value in analysis.metrics.items()},
    )
    if analysis.uses:
        superpatches = merging_table(analysis.uses)
        result['superpatches'] = {size: asdict(row) for size, row in superpatches.items()}
        result['halted'] = [asdict(row) for row in halting_table(analysis.uses)]
    if analysis.quality is not None:
        result['boundaries'] = analysis.quality.table().means()
    return _without_nan(result)


def write_csv(results: Mapping[str, Analysis], classes: Sequence[str], folder: Path) -> list[Path]:
    """All figures of all images and classes.

    Args:
        results: by the name of the model.
        classes: names of the classes.
        folder: gets tokens.csv, and with ground truth spending.csv and classes.csv.
    """
    tokens = [
        (name, image.image, image.window, kind, count)
        for name, analysis in results.items()
        for image in analysis.images
        for kind, count in image.counts.items()
    ]
    spent = [
        (name, image.image, image.window, *astuple(one))
        for name, analysis in results.items()
        for image in analysis.images
        for one in image.spendings
    ]
    quality = {
        name: analysis.quality.table().columns()
        for name, analysis in results.items()
        if analysis.quality is not None
    }
    per_class = [
        (name, label, *('' if math.isnan(column[row]) else f'{column[row]:.4f}' for column in one))
        for name, columns in quality.items()
        for one in [list(columns.values())]
        for row, label in enumerate(classes)
    ]
    head = ('model', 'image', 'window')
    written = []
    for file, header, rows in (
        ('tokens.csv', (*head, 'kind', 'tokens'), tokens),
        ('spending.csv', (*head, *(field.name for field in fields(Spending))), spent),
        ('classes.csv', ('model', 'class', *next(iter(quality.values()), ())), per_class),
    ):
        if rows:
            _write_rows(folder / file, [header, *rows])
            written.append(folder / file)
    return written


def draw_plots(results: Mapping[str, Analysis], classes: Sequence[str], folder: Path) -> list[Path]:
    """Plots of what :func:`write_csv` writes.

    Args:
        results: by the name of the model.
        classes: names of the classes.
        folder: gets tokens.png, and with ground truth spending.png, bands.png and classes.png.
    """
    plots = {
        'tokens.png': _plot_tokens,
        'spending.png': _plot_spending,
        'bands.png': _plot_bands,
    }
    written = []
    for name, plot in plots.items():
        figure = plot(results)
        if figure is not None:
            written.append(_save(figure, folder / name))
    figure = _plot_classes(results, classes)
    if figure is not None:
        written.append(_save(figure, folder / 'classes.png'))
    return written


def _spending_lines(rows: Sequence[SpendingRow]) -> Iterable[str]:
    yield f'{"":28}{"boundary covered, %":^30}{"chosen away from it, %":^30}'.rstrip()
    heads = ('tokens', 'random', 'oracle') * 2
    yield f'{"patches":20}{"chosen":>8}' + ''.join(f'{head:>10}' for head in heads)
    for row in rows:
        values = (
            row.covered,
            row.covered_random,
            row.covered_oracle,
            row.away,
            row.away_random,
            row.away_oracle,
        )
        name = f'{row.name}, {row.patch_size} px'
        yield f'{name:20}{row.chosen:7.1f}%' + ''.join(f'{value:10.1f}' for value in values)


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _save(figure: Any, path: Path) -> Path:
    with replaced(path) as part:
        figure.savefig(part, dpi=120, format='png')
    return path


def _plot_tokens(results: Mapping[str, Analysis]) -> Any:
    """Tokens of every kind over the images."""
    results = {name: one for name, one in results.items() if one.images}
    if not results:
        return None
    most = max(len(counts_by_kind(one)) for one in results.values())
    figure, axes = _figure(max(4.2, 1.1 * most) * len(results), 3.4, len(results))
    for axis, (name, analysis) in zip(axes, results.items(), strict=True):
        counts = counts_by_kind(analysis)
        labels = [
            kind.replace(' after ', '\nafter ').replace(' patches', '\npatches') for kind in counts
        ]
        axis.boxplot(list(counts.values()), tick_labels=labels, whis=(0, 100), widths=0.5)
        axis.set_ylim(bottom=0)
        axis.set_ylabel(f'tokens per {_unit(analysis)}')
        axis.grid(axis='y', alpha=0.3)
        axis.set_title(f'{name}, {len(analysis.images)} {_unit(analysis)}s', fontsize=10)
    return figure


def _plot_spending(results: Mapping[str, Analysis]) -> Any:
    """Boundary covered, and patches chosen away from it, by round."""
    tables = {name: spending_table(spendings(one)) for name, one in results.items()}
    rows = [
        (f'{name}\n' * (len(tables) > 1) + f'{row.name}\n{row.patch_size} px', row)
        for name, table in tables.items()
        for row in table
    ]
    if not rows:
        return None
    figure, axes = _figure(max(8.0, 1.6 * len(rows) + 2), 3.6, 2)
    texts = {'covered': 'boundary pixels covered, %', 'away': 'patches without boundary, %'}
    for axis, (part, text) in zip(axes, texts.items(), strict=True):
        for number, kind in enumerate(('random', '', 'oracle')):
            values = [getattr(row, f'{part}_{kind}' if kind else part) for _, row in rows]
            places = np.arange(len(rows)) + 0.27 * (number - 1)
            bars = axis.bar(places, values, 0.25, label=kind or 'tokens', color=f'C{number}')
            axis.bar_label(bars, fmt='%.0f', fontsize=8)
        axis.set_xticks(range(len(rows)), [label for label, _ in rows])
        axis.set_ylabel(text)
        axis.margins(y=0.12)
    figure.legend(*axes[0].get_legend_handles_labels(), loc='outside lower center', ncols=3)
    return figure


def _plot_bands(results: Mapping[str, Analysis]) -> Any:
    """mIoU over the distance to a boundary."""
    found = {n: one.quality.table() for n, one in results.items() if one.quality is not None}
    if not found:
        return None
    figure, (axis,) = _figure(5.6, 3.8)
    labels: list[str] = []
    for name, table in found.items():
        means = table.means()
        boundary, whole = means.pop('boundary IoU'), means.pop('IoU')
        labels = [key.removeprefix('IoU ').replace(' px', '') for key in means]
        text = f'mIoU {whole:.1f}, boundary IoU {boundary:.1f}'
        axis.plot(range(len(means)), list(means.values()), marker='o', label=f'{name}\n{text}')
    axis.set_xticks(range(len(labels)), [label.replace(' ', '\n') for label in labels])
    axis.set_xlabel('distance to a class boundary, px')
    axis.set_ylabel('mIoU, %')
    axis.grid(alpha=0.3)
    axis.legend(fontsize=9)
    return figure


def _plot_classes(results: Mapping[str, Analysis], classes: Sequence[str]) -> Any:
    """IoU and boundary IoU of every class."""
    found = {n: one.quality.table() for n, one in results.items() if one.quality is not None}
    if not found:
        return None
    first = next(iter(found.values()))
    known = np.flatnonzero(~np.isnan(first.whole))
    known = known[np.argsort(-first.whole[known], kind='stable')]
    figure, axes = _figure(4.6 * len(found), 0.22 * len(known) + 1.4, len(found))
    for axis, (name, table) in zip(axes, found.items(), strict=True):
        places = np.arange(len(known))
        axis.barh(places - 0.2, table.whole[known], 0.38, label='IoU')
        axis.barh(places + 0.2, table.boundary[known], 0.38, label='boundary IoU')
        axis.set_yticks(places, [classes[number] for number in known])
        axis.invert_yaxis()
        axis.set_xlim(0, 100)
        axis.set_xlabel('%')
        axis.grid(axis='x', alpha=0.3)
        axis.set_title(name, fontsize=10)
    figure.legend(*axes[0].get_legend_handles_labels(), loc='outside lower center', ncols=2)
    return figure


def _write_rows(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    with replaced(path) as part, part.open('w', newline='', encoding='utf-8') as file:
        csv.writer(file, lineterminator='\n').writerows(rows)


def _without_nan(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
