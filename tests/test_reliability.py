"""What the page on reliability describes exists, and its rows say what happened."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.reliability import ROOT, Row, chosen, page, rows


@pytest.mark.parametrize('row', rows(), ids=lambda row: row.tried)
def test_what_a_row_names_exists(row: Row) -> None:
    assert row.tests or row.command
    for test in row.tests:
        path, _, name = test.partition('::')
        body = ast.parse((ROOT / path).read_text(encoding='utf-8')).body
        assert name in [node.name for node in body if isinstance(node, ast.FunctionDef)]
    for part in row.command:
        assert not part.endswith('.py') or (ROOT / part).exists()


def test_failures_and_reasons_are_told() -> None:
    good = Row('Kernels', 'many calls', 'answers', times=12000)
    bad = Row('Kernels', 'others', 'answers', times=3, failures=['it broke'])
    left = Row('Kernels', 'on a GPU', 'answers', skipped=['there is none', 'there is none'])
    lines = page([good, bad, left], 90).splitlines()
    assert '| many calls | 12 000 | answers |' in lines
    assert '| others | 3 | **failed**: it broke |' in lines
    assert '| on a GPU | 0 | not tried; skipped: there is none |' in lines


def test_words_are_short_and_without_folders(tmp_path: Path) -> None:
    words = [f'ValueError: {tmp_path}/some.pth: is no checkpoint', 'TypeError: no', 'TypeError: no']
    words += ['ValueError: something that is much longer than the first of them, really']
    assert chosen(words) == ['TypeError: no', 'ValueError: some.pth: is no checkpoint']


def test_the_page_has_all_rows_and_no_failure() -> None:
    text = (ROOT / 'docs/reliability.md').read_text(encoding='utf-8')
    cells = [(row.tried, row.tried.replace('|', r'\|')) for row in rows()]
    missing = [tried for tried, cell in cells if f'| {cell} |' not in text]
    assert not missing, 'make reliability writes the page anew'
    assert '**failed**' not in text
