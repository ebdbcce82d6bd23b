"""The design page tells the truth: its figures, and the direction of imports."""

from __future__ import annotations

import ast

from tests.pages import ROOT, fences, files, table_rows, tree


def test_the_numbers_of_the_design_are_those_of_the_fidelity_page():
    page = (ROOT / 'docs' / 'fidelity.md').read_text(encoding='utf-8')
    rows = list(table_rows(page))
    design = (ROOT / 'docs' / 'design.md').read_text(encoding='utf-8')
    _, _, numbers = design.partition('## Numbers that must come out')
    checked = 0
    for row in table_rows(numbers.partition('\n## ')[0]):
        name, params, image, allocation, macs = row[:5]
        if name == 'model':
            continue
        assert any(line[:2] == [name, params] for line in rows), (name, params)
        wanted = [name, image, *([allocation] if allocation else [])]
        assert any(line[: len(wanted)] == wanted and macs in line[3:6] for line in rows) or any(
            line[:3] == [name, image, macs] for line in rows
        ), (wanted, macs)
        checked += 1
    assert checked > 5


def subpackage(parts: list[str]) -> str:
    return '.'.join(parts[:2]) if parts[:1] == ['models'] else ''.join(parts[:1])


def test_imports_point_one_way():
    design = (ROOT / 'docs' / 'design.md').read_text(encoding='utf-8')
    order = next(block for kind, block in fences(design) if kind == 'text').split()
    package = ROOT / 'mmseg_arta'
    folders = {path.parent.name for path in package.glob('*/__init__.py')} - {'models'}
    folders |= {f'models.{path.parent.name}' for path in package.glob('models/*/__init__.py')}
    assert set(order) == folders
    wrong = []
    for name in files():
        parts = name.split('/')[1:]
        if not name.startswith('mmseg_arta/') or not name.endswith('.py') or len(parts) < 2:
            continue
        here = subpackage(parts[:-1])
        if here == 'models':
            continue
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = parts[: len(parts) - node.level]
                there = subpackage(base + (node.module or '').split('.'))
                # ``models`` as a whole comes after all of its parts.
                position = order.index('models.segmentors') if there == 'models' else None
                if there in order:
                    position = order.index(there)
                if position is not None and position > order.index(here):
                    wrong.append(f'{name} imports {there}')
    assert not wrong, '\n' + '\n'.join(wrong)
