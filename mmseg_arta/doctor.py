"""``python -m mmseg_arta.doctor``: what is installed here, and what to do about each problem.

Prints a table, or JSON with ``--json``. Exits with 1 if something required is missing, too old or
broken, with 0 otherwise: the lack of something optional is a note, never a problem.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, astuple

from ._environment import PROBLEM, Row, examine

HEADER = Row('component', 'found', 'needed', 'status', 'what to do')
GAP = '  '
NARROWEST_ADVICE = 30
WIDEST_FOUND = 48


def table(rows: Sequence[Row], width: int) -> str:
    """The rows as aligned text; long cells are wrapped to keep to ``width`` columns if they can."""
    lines = [HEADER, *rows]
    columns = [
        max(len(cell) for cell in column) for column in zip(*map(astuple, lines), strict=True)
    ]
    columns[1] = min(columns[1], WIDEST_FOUND)
    columns[4] = max(NARROWEST_ADVICE, width - sum(columns[:4]) - 4 * len(GAP))
    printed = []
    for row in lines:
        cells = [
            textwrap.wrap(cell, column, break_on_hyphens=False) or ['']
            for cell, column in zip(astuple(row), columns, strict=True)
        ]
        for i in range(max(map(len, cells))):
            parts = [
                (cell[i] if i < len(cell) else '').ljust(column)
                for cell, column in zip(cells, columns, strict=True)
            ]
            printed.append(GAP.join(parts).rstrip())
    printed.insert(1, GAP.join('-' * column for column in columns))
    return '\n'.join(printed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the findings; the return value is the process's exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m mmseg_arta.doctor',
        description='Show what mmseg_arta finds in this environment, and what to do about it.',
    )
    parser.add_argument('--json', action='store_true', help='print JSON in place of a table')
    options = parser.parse_args(arguments)

    rows = examine()
    problems = sum(row.status == PROBLEM for row in rows)
    if options.json:
        report = {'problems': problems, 'components': [asdict(row) for row in rows]}
        print(json.dumps(report, indent=2))
    else:
        print(table(rows, shutil.get_terminal_size((120, 24)).columns))
        print()
        print(f'{problems or "no"} problem{"" if problems == 1 else "s"} found')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
