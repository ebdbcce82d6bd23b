"""The fidelity report: tables of what was published against ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..flops.report import EXECUTED, PUBLISHED
from .measure import Measurement
from .rows import Family, Row

_INTRODUCTION = """\
# Fidelity

Parameters and operations of every variant, as published and as counted here. `tools/fidelity.py`
writes this page; models are built from the bundled configs, and nothing is copied from a table
but the columns *paper* and *code*.

"GFLOPs" in the papers are multiply-accumulates. Here a multiply-accumulate is called that (MAC),
and two conventions stand side by side, all for one image, whole, post-processing included:

- {published}
- {executed}

*paper* is what the paper prints, *code* what was measured on the published implementation; *diff*
is ours against the column before. *full* allocation refines every token, *caps* the largest share
of training in every round, whatever the scores. A dash says that nothing was published.

To reproduce a row, or the page (all chapters, or some of {names}):

    python tools/get_flops.py arta-tiny_mask2former_4xb8-80k_ade20k-512x512 \\
        --shape 512 512 --allocation caps
    python tools/fidelity.py [--family NAME ...]
"""


def render(families: Mapping[str, Family], measured: Mapping[str, Measurement]) -> str:
    """The page, in Markdown; chapters of which nothing was measured are left out.

    Args:
        families: chapters by name.
        measured: by the rows' keys.
    """
    names = ', '.join(f'`{name}`' for name in families)
    text = [_INTRODUCTION.format(executed=EXECUTED, published=PUBLISHED, names=names)]
    for family in families.values():
        rows = [row for row in family.rows if row.key in measured]
        if rows:
            text.append(_chapter(family, rows, measured))
    return '\n'.join(text)


def difference(ours: float, published: float | None) -> str:
    """Ours against a published figure, in percent."""
    return '–' if published is None else f'{(ours / published - 1) * 100:+.2f} %'


def _chapter(family: Family, rows: Sequence[Row], measured: Mapping[str, Measurement]) -> str:
    parts = [f'## {family.title}', *family.notes, _params_table(rows, measured)]
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
        found = measured[row.key]
        ours = found.macs_published / 1e9
        lines.append(
            (
                row.name,
                f'{row.shape[0]}x{row.shape[1]}',
                *((row.allocation, str(found.tokens)) if sparse else ()),
                f'{ours:.2f}',
                *_against(ours, row.paper.gmacs),
                *_against(ours, row.code.gmacs),
                f'{found.macs / 1e9:.2f}',
                f'{2 * found.macs / 1e9:.2f}',
            )
        )
    head = ['operations', 'image', *(('allocation', 'tokens') if sparse else ())]
    head += ['GMACs as published', 'paper', 'diff', 'code', 'diff']
    head += ['GMACs as executed', 'GFLOPs as executed']
    return _table(head, lines)


def _components_table(row: Row, found: Measurement) -> str:
    lines = []
    for name, published in row.components.items():
        ours = found.components[name] / 1e9
        label = name.replace('_', ' ').replace('/', ', ')
        lines.append((label, f'{ours:.3f}', *_against(ours, published)))
    head = f'{row.name}, {row.shape[0]}x{row.shape[1]}, {row.allocation}'
    return _table((head, 'GMACs as published', 'code', 'diff'), lines)


def _against(ours: float, published: float | None) -> tuple[str, str]:
    return ('–' if published is None else f'{published:g}', difference(ours, published))


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ['---', *['---:'] * (len(head) - 1)]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in (head, rule, *lines))
