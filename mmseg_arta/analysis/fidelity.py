"""Proof of faithfulness: parameters and operations of every variant beside published figures.

Rows are counted, what they came to is kept as JSON, and a page of tables is made of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path

from ..files import write_json
from .families import FAMILIES
from .family import Chapter, Row
from .flops import OperationCount, count_operations
from .flops.load import build_model, load_config
from .flops.report import EXECUTED, PUBLISHED

#: Chapters of the report by the names of their families, in its order.
CHAPTERS: dict[str, Chapter] = {
    name: family.chapter for name, family in FAMILIES.items() if family.chapter is not None
}

_INTRODUCTION = """\
# Fidelity

Parameters and operations of every variant, as published and as counted here. `tools/fidelity.py`
writes this page; models are built from the bundled configs, and nothing is copied from a table
but the columns *paper* and *code*.

"GFLOPs" in the papers are multiply-accumulates. Here a multiply-accumulate is called that (MAC),
and two conventions stand side by side, all for one image, whole, post-processing included but in
the chapters of LRFormer and SegViT (with CTS, DToP and STEP), whose published figures end before
it; `tools/get_flops.py` prints it as a part of its own:

- {published}
- {executed}

*paper* is what the paper prints, *code* what was measured on the published implementation; *diff*
is ours against the column before. *full* allocation refines every token, *caps* the largest share
of training in every round, whatever the scores. A dash says that nothing was published.

The papers' means and deviations over validation images are of images resized to one size each,
512x512 or, on Cityscapes, 1024x2048, and seen whole. `tools/get_flops.py --dataset-samples` and
`tools/benchmark.py --protocol flops` count like that. With `--sample-size pipeline` the first
counts what testing runs instead: the size that the test pipeline makes, 512x683 of a 4:3 image of
ADE20K, and windows where the config has them, three overlapping ones of 1024x1024 on Cityscapes.

To reproduce a row, or the page (all chapters, or some of {names}):

    python tools/get_flops.py arta-tiny_mask2former_4xb8-80k_ade20k-512x512 \\
        --shape 512 512 --allocation caps
    python tools/fidelity.py [--family NAME ...]
"""


@dataclass(frozen=True)
class Measurement:
    """What a row came to.

    Attributes:
        params: parameters.
        macs: multiply-accumulates as executed.
        macs_published: multiply-accumulates as the papers count them.
        components: the latter by component, ``'component'`` or ``'component/part'``.
        tokens: tokens of all levels, 0 for dense models.
    """

    params: int
    macs: int
    macs_published: int
    components: Mapping[str, int] = field(default_factory=dict)
    tokens: int = 0

    @classmethod
    def of(cls, count: OperationCount, without: tuple[str, ...] = ()) -> Measurement:
        """From a count, leaving out some components."""
        kept = {name: part for name, part in count.components.items() if name not in without}
        components = {}
        for name, component in kept.items():
            components[name] = component.macs_published
            for part, inner in component.parts.items():
                components[f'{name}/{part}'] = inner.macs_published
        return cls(
            count.params,
            sum(component.macs for component in kept.values()),
            sum(component.macs_published for component in kept.values()),
            components,
            sum(count.tokens.values()),
        )


def measure(
    chapter: Chapter, progress: Callable[[Row], None] | None = None
) -> Iterator[tuple[Row, Measurement | str]]:
    """Count the rows of a chapter, one model at a time.

    Args:
        chapter: what to count.
        progress: told before every row.

    Yields:
        every row with its measurement, or with the reason why there is none.
    """

    def source(row: Row) -> tuple[str, str]:
        return row.config, str(sorted(row.options.items()))

    for _, group in groupby(sorted(chapter.rows, key=source), key=source):
        rows = list(group)
        try:
            model = build_model(load_config(rows[0].config, rows[0].options))
        except (OSError, ValueError) as error:
            yield from ((row, str(error)) for row in rows)
            continue
        for row in rows:
            if progress is not None:
                progress(row)
            try:
                count = count_operations(model, row.shape, row.allocation, dry=row.dry)
                yield row, Measurement.of(count, row.without)
            except ValueError as error:
                yield row, str(error)


def read_measurements(path: str | Path) -> dict[str, Measurement]:
    """Measurements by the rows' keys; none if there is no such file.

    Raises:
        ValueError: if the file holds something else.
    """
    path = Path(path)
    if not path.exists():
        return {}
    try:
        loaded = json.loads(path.read_text(encoding='utf-8'))
        return {key: Measurement(**values) for key, values in loaded.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f'{path} holds no measurements of this tool: {error}') from error


def write_measurements(path: str | Path, measurements: Mapping[str, Measurement]) -> None:
    """Keep measurements, so that a chapter can be measured anew without the others."""
    write_json(path, {key: asdict(measurements[key]) for key in sorted(measurements)})


def render(chapters: Mapping[str, Chapter], measured: Mapping[str, Measurement]) -> str:
    """The page, in Markdown; chapters of which nothing was measured are left out.

    Args:
        chapters: by name.
        measured: by the rows' keys.
    """
    names = ', '.join(f'`{name}`' for name in chapters)
    text = [_INTRODUCTION.format(executed=EXECUTED, published=PUBLISHED, names=names)]
    for chapter in chapters.values():
        rows = [row for row in chapter.rows if row.key in measured]
        if rows:
            text.append(_chapter(chapter, rows, measured))
    return '\n'.join(text)


def difference(ours: float, published: float | None) -> str:
    """Ours against a published figure, in percent."""
    return '–' if published is None else f'{(ours / published - 1) * 100:+.2f} %'


def _chapter(chapter: Chapter, rows: Sequence[Row], measured: Mapping[str, Measurement]) -> str:
    parts = [f'## {chapter.title}', *chapter.notes, _params_table(rows, measured)]
    parts.append(_operations_table(rows, measured))
    for row in rows:
        if row.components:
            parts.append(_components_table(row, measured[row.key]))
    return '\n\n'.join(parts) + '\n'


def _params_table(rows: Sequence[Row], measured: Mapping[str, Measurement]) -> str:
    lines = []
    for row in {row.name: row for row in rows}.values():
        ours = measured[row.key].params / 1e6
        lines.append(
            (
                row.name,
                f'{ours:.3f}',
                *_against(ours, row.paper.params),
                *_against(ours, row.code.params),
            )
        )
    return _table(('parameters, M', 'ours', 'paper', 'diff', 'code', 'diff'), lines)


def _operations_table(rows: Sequence[Row], measured: Mapping[str, Measurement]) -> str:
    sparse = any(measured[row.key].tokens for row in rows)
    lines = []
    for row in rows:
        measurement = measured[row.key]
        ours = measurement.macs_published / 1e9
        lines.append(
            (
                row.name,
                f'{row.shape[0]}x{row.shape[1]}',
                *((row.allocation, str(measurement.tokens)) if sparse else ()),
                f'{ours:.2f}',
                *_against(ours, row.paper.gmacs),
                *_against(ours, row.code.gmacs),
                f'{measurement.macs / 1e9:.2f}',
                f'{2 * measurement.macs / 1e9:.2f}',
            )
        )
    head = ['operations', 'image', *(('allocation', 'tokens') if sparse else ())]
    head += ['GMACs as published', 'paper', 'diff', 'code', 'diff']
    head += ['GMACs as executed', 'GFLOPs as executed']
    return _table(head, lines)


def _components_table(row: Row, measurement: Measurement) -> str:
    lines = []
    for name, published in row.components.items():
        ours = measurement.components[name] / 1e9
        label = name.replace('_', ' ').replace('/', ', ')
        lines.append((label, f'{ours:.3f}', *_against(ours, published)))
    head = f'{row.name}, {row.shape[0]}x{row.shape[1]}, {row.allocation}'
    return _table((head, 'GMACs as published', 'code', 'diff'), lines)


def _against(ours: float, published: float | None) -> tuple[str, str]:
    return ('–' if published is None else f'{published:g}', difference(ours, published))


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ['---', *['---:'] * (len(head) - 1)]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in (head, rule, *lines))
