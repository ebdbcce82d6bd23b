"""What the tables of the papers say: rows from ``tables/``, and what measures each column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

TABLES = Path(__file__).resolve().parent / 'tables'
_GIB = 2**30


@dataclass(frozen=True)
class Column:
    """A column of the papers.

    Attributes:
        name: its heading.
        protocol: which measures it; '' for what only training tells.
        figure: name of the figure among the protocol's.
        factor: from the figure to the unit of the heading.
        digits: after the point.
        ratio: name of the figure's ratio to the table's first model, if there is one.
    """

    name: str
    protocol: str = ''
    figure: str = ''
    factor: float = 1.0
    digits: int = 1
    ratio: str = ''


COLUMNS = {
    'params': Column('params (M)', 'flops', 'params', 1e-6),
    'gmacs': Column('GFLOPs as papers count', 'flops', 'gmacs_published'),
    'fps': Column('FPS', 'inference', 'images_per_second', 1.0, 2, 'speed_ratio'),
    'memory': Column('memory (GiB)', 'inference', 'memory_bytes', 1 / _GIB, 1, 'memory_ratio'),
    'memory_train': Column(
        'training memory, max (GiB)', 'train', 'memory_max_bytes', 1 / _GIB, 1, 'memory_ratio'
    ),
    'memory_train_mean': Column('mean (GiB)', 'train', 'memory_mean_bytes', 1 / _GIB),
    'miou': Column('mIoU'),
    'miou_ms': Column('mIoU, several scales'),
    'top1': Column('top-1'),
}


@dataclass(frozen=True)
class TableRow:
    """A row of a paper's table.

    Attributes:
        label: the model, as the paper names it.
        published: figures by column, as numbers or text; None where the paper has none.
        config: which config it is; '' if no one has one.
        options, allocation: see :class:`~mmseg_arta.analysis.benchmark.subjects.Model`.
        shape, batch_size: if they are not the table's.
    """

    label: str
    published: Mapping[str, Any]
    config: str = ''
    options: Mapping[str, Any] = field(default_factory=dict)
    allocation: str = 'model'
    shape: tuple[int, int] | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class Part:
    """A table, or that part of it which was measured under one set of conditions."""

    title: str
    protocols: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    shape: tuple[int, int] = (512, 512)
    batch_size: int = 1
    notes: str = ''


def names() -> list[str]:
    """Of all tables."""
    return sorted(path.stem for path in TABLES.glob('*.yml'))


def read_table(name: str) -> tuple[str, list[Part]]:
    """Which table it is, and its parts.

    Raises:
        ValueError: if there is no table of that name.
    """
    if name not in names():
        raise ValueError(f'there is no table {name!r}; known are {", ".join(names())}')
    content = yaml.safe_load((TABLES / f'{name}.yml').read_text(encoding='utf-8'))
    return content['paper'], [_part(part) for part in content['parts']]


def _part(content: Mapping[str, Any]) -> Part:
    columns = tuple(content['columns'])
    rows = []
    for label, *cells in content['rows']:
        about = dict(cells.pop()) if isinstance(cells[-1], Mapping) else {}
        if 'shape' in about:
            about['shape'] = tuple(about['shape'])
        rows.append(TableRow(str(label), dict(zip(columns, cells, strict=True)), **about))
    known = {key: content[key] for key in ('title', 'batch_size', 'notes') if key in content}
    shape = tuple(content.get('shape', (512, 512)))
    return Part(
        **known,
        shape=shape,
        protocols=tuple(content['protocols']),
        columns=columns,
        rows=tuple(rows),
    )
