"""Tables of a sweep's results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from .records import Record, write_whole


def as_markdown(records: Sequence[Record]) -> str:
    """A table with a line per config, and how many there are of each result."""
    rows = [('config', 'checked by', 'result', 'seconds')]
    rows += [
        (
            record.config,
            record.how,
            record.result + (f': {record.reason}' if record.reason else ''),
            f'{record.seconds:.1f}',
        )
        for record in records
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)] + [7]
    lines = [
        '| '
        + ' | '.join(
            cell.rjust(width) if column == 3 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + ' |'
        for row in rows
    ]
    rule = ['-' * width for width in widths]
    rule[3] = rule[3][:-1] + ':'
    lines.insert(1, '| ' + ' | '.join(rule) + ' |')
    return '\n'.join(lines) + f'\n\n{summary(records)}\n'


def summary(records: Sequence[Record]) -> str:
    """How many configs there are of each result, in words."""
    results = [record.result for record in records]
    counts = [f'{results.count(kind)} {kind}' for kind in ('passed', 'failed', 'skipped')]
    return f'{len(records)} configs: {", ".join(counts)}'


def write_tables(records: Sequence[Record], folder: Path) -> None:
    """Write ``table.md`` and ``table.json``."""
    write_whole(folder / 'table.md', as_markdown(records))
    rows = [asdict(record) for record in records]
    write_whole(folder / 'table.json', json.dumps(rows, indent=1) + '\n')
