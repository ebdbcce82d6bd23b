"""The files of a checkout, and its pages cut into pieces."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        *(ROOT / name for name in ('README.md', 'CONTRIBUTING.md')),
        *ROOT.glob('docs/**/*.md'),
        *ROOT.glob('configs/*/README.md'),
        *ROOT.glob('benchmarks/*.md'),
        *ROOT.glob('csrc/*.md'),
    ]
)
_SKIPPED = {'.git', '.venv', '__pycache__', '.ruff_cache', '.pytest_cache', 'build', 'dist'}


@cache
def files() -> tuple[str, ...]:
    """All files of the checkout, relative to its root."""
    found = []
    for path in ROOT.rglob('*'):
        parts = path.relative_to(ROOT).parts
        if path.is_file() and not _SKIPPED & set(parts):
            found.append('/'.join(parts))
    return tuple(sorted(found))


@cache
def tree(name: str) -> ast.Module:
    """A Python file of the checkout, parsed."""
    return ast.parse((ROOT / name).read_text(encoding='utf-8'))


def fences(text: str) -> Iterator[tuple[str, str]]:
    """Kind and content of every block of code."""
    for match in re.finditer(r'^```(\w*)\n(.*?)^```', text, re.M | re.S):
        yield match[1], match[2]
    for match in re.finditer(r'(?:^ {4}(?:python|make|mim) .*\n(?: {8}.*\n)*)+', text, re.M):
        yield 'shell', re.sub(r'^ {4}', '', match[0], flags=re.M)


def table_rows(text: str) -> Iterator[list[str]]:
    """Cells of every row of every table."""
    for line in text.splitlines():
        if line.startswith('|') and not re.match(r'\|[\s:|-]+$', line):
            yield [cell.strip() for cell in line.strip('|').split('|')]


def spans(text: str) -> Iterator[str]:
    """Pieces of code in sentences; in tables of ablations with what their header puts first."""
    prose = re.sub(r'^```.*?^```', '', text, flags=re.M | re.S)
    lines = prose.splitlines()
    paragraphs = '\n'.join(line for line in lines if not line.startswith('|'))
    for found in re.findall(r'`([^`]+)`', paragraphs):
        yield ' '.join(found.split())
    begin = ''
    for line in lines:
        header = re.match(r'\| config `([\w-]+-)\.\.\.`', line)
        if header or not line.startswith('|'):
            begin = header[1] if header else ''
        for index, cell in enumerate(line.split('|') if line.startswith('|') else ()):
            for found in re.findall(r'`([^`]+)`', cell):
                if not (header and found.endswith('...')):
                    yield f'{begin}{found}_*' if begin and index == 1 else found
