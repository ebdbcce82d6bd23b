"""What the sweep came to, kept on disk and as tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ...files import write_text

PASSED, FAILED, SKIPPED = 'passed', 'failed', 'skipped'


@dataclass(frozen=True)
class Record:
    """Outcome of one config.

    Attributes:
        config: name of the config.
        how: 'mim' or 'reduced step'.
        result: 'passed', 'failed' or 'skipped'.
        seconds: wall-clock time.
        digest: hash of the config's resolved content.
        reason: why it was skipped or failed.
        log: file with all output, relative to the sweep's folder.
    """

    config: str
    how: str
    result: str
    seconds: float = 0.0
    digest: str = ''
    reason: str = ''
    log: str = ''


class Records:
    """A folder with one JSON file per config, written whole or not at all.

    Args:
        folder: made when needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _file(self, config: str) -> Path:
        return self.folder / f'{config}.json'

    def find(self, config: str, how: str, digest: str) -> Record | None:
        """The record of a config of this content that was checked this way; None if not."""
        try:
            record = Record(**json.loads(self._file(config).read_text()))
        except (FileNotFoundError, TypeError, ValueError):
            return None
        return record if (record.how, record.digest) == (how, digest) else None

    def write(self, record: Record) -> None:
        """Keep a record in place of an older one of the same config."""
        path = self._file(record.config)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(asdict(record), indent=1) + '\n')


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
    write_text(folder / 'table.md', as_markdown(records))
    rows = [asdict(record) for record in records]
    write_text(folder / 'table.json', json.dumps(rows, indent=1) + '\n')
