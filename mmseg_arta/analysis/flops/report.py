"""Counts as text and as JSON files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .result import ComponentCount, OperationCount
from .samples import SampleStatistics

EXECUTED = (
    'as executed: multiply-accumulates of every convolution, matrix product, attention and custom '
    "kernel that runs, norms and resizing by fvcore's weights; FLOPs are twice that; searches for "
    'nearest tokens and other elementwise work are not counted.'
)
PUBLISHED = (
    "as published: what fvcore counts of the papers' code: multiply-accumulates of the forward "
    'pass to class scores at full size, with dense mask products and 1023 x 1023 position tables, '
    'without custom kernels.'
)
_COLUMNS = ('component', 'params (M)', 'GMACs', 'GFLOPs', 'GMACs as published')


def render(count: OperationCount, title: str, samples: SampleStatistics | None = None) -> str:
    """A table of the components, and what its numbers mean."""
    lines = [title, _circumstances(count, samples), '']
    rows = [_COLUMNS, *_rows(count.components, ''), _row('total', count)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    rule = '-' * (sum(widths) + 2 * (len(widths) - 1))
    for number, row in enumerate(rows):
        if number in (1, len(rows) - 1):
            lines.append(rule)
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append('  '.join(cells))
    lines.append('')
    if samples is not None:
        for name, label in (('macs', 'GMACs as executed'), ('macs_published', 'as published')):
            mean, std = samples.spread(name)
            lines.append(f'{label}: {mean / 1e9:.2f} ± {std / 1e9:.2f} per image')
    if count.mask_step is not None:
        executed, dense = count.mask_step.executed, count.mask_step.dense
        lines.append(
            f'mask logits: {executed / 1e9:.3f} GMACs factorised, as executed; '
            f'{dense / 1e9:.3f} GMACs by dense matrix products, as published'
        )
    if count.uncounted:
        lines.append(f'kernels without multiply-accumulates: {", ".join(sorted(count.uncounted))}')
    return '\n'.join([*lines, EXECUTED, PUBLISHED])


def _circumstances(count: OperationCount, samples: SampleStatistics | None) -> str:
    size = 'images of several sizes'
    if count.shape is not None:
        size = f'{count.shape[0]}x{count.shape[1]} px'
    parts = [size, 'sliding windows' if count.mode == 'slide' else 'whole image']
    if samples is not None:
        parts.insert(0, f'mean of {len(samples.counts)} images')
    if count.tokens:
        levels = ', '.join(f'{tokens} of {size} px' for size, tokens in count.tokens.items())
        parts.append(f'allocation {count.allocation}')
        parts.append(f'{sum(count.tokens.values())} tokens ({levels})')
    return '; '.join(parts)


def _rows(components: Mapping[str, ComponentCount], indent: str) -> Iterator[tuple[str, ...]]:
    for name, component in components.items():
        yield _row(indent + name, component)
        yield from _rows(component.parts, indent + '  ')


def _row(name: str, count: ComponentCount | OperationCount) -> tuple[str, ...]:
    return (
        name,
        f'{count.params / 1e6:.3f}',
        f'{count.macs / 1e9:.3f}',
        f'{count.flops / 1e9:.3f}',
        f'{count.macs_published / 1e9:.3f}',
    )
