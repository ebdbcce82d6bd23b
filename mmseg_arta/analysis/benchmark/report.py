"""Results as tables and as plain numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .protocols import Result, Row

_GIB = 2**30

Figures = Mapping[str, Any]
Column = tuple[str, Callable[[Figures], str]]


def _number(name: str, digits: int, factor: float = 1.0) -> Callable[[Figures], str]:
    def show(figures: Figures) -> str:
        value = figures.get(name)
        return '–' if value is None else f'{value * factor:.{digits}f}'

    return show


def _spread(figures: Figures) -> str:
    text = f'{figures["gmacs_published"]:.1f}'
    return text if figures['images'] == 1 else f'{text} ± {figures["gmacs_published_std"]:.1f}'


def _tokens(figures: Figures) -> str:
    return f'{figures["tokens"]:.0f}' if figures['tokens'] else '–'


_PARAMS: Column = ('params (M)', _number('params', 1, 1e-6))
_SPEED: Column = ('× first', _number('speed_ratio', 2))
_MEMORY_RATIO: Column = ('× first', _number('memory_ratio', 2))
COLUMNS: dict[str, tuple[Column, ...]] = {
    'inference': (
        _PARAMS,
        ('FPS', _number('images_per_second', 2)),
        _SPEED,
        ('median (ms)', _number('latency_ms', 1)),
        ('95 % (ms)', _number('latency_95_ms', 1)),
        ('peak (GiB)', _number('memory_bytes', 2, 1 / _GIB)),
        _MEMORY_RATIO,
    ),
    'train': (
        _PARAMS,
        ('images/s', _number('images_per_second', 2)),
        _SPEED,
        ('step (ms)', _number('step_ms', 1)),
        ('peak, max (GiB)', _number('memory_max_bytes', 2, 1 / _GIB)),
        ('mean (GiB)', _number('memory_mean_bytes', 2, 1 / _GIB)),
        _MEMORY_RATIO,
    ),
    'flops': (
        _PARAMS,
        ('GFLOPs as papers count', _spread),
        ('× first', _number('gmacs_ratio', 2)),
        ('GMACs executed', _number('gmacs', 1)),
        ('tokens', _tokens),
    ),
}


def describe(result: Result) -> str:
    """The conditions in one line."""
    conditions = result.conditions
    parts = ['{}x{} px'.format(*conditions.shape), result.source, conditions.dtype]
    if conditions.compile:
        parts.append('compiled')
    if conditions.cuda_graph:
        parts.append('CUDA graphs')
    if conditions.mode != 'whole':
        parts.append(f'inference mode {conditions.mode}')
    if result.protocol != 'flops':
        parts.insert(0, conditions.device)
        parts.append(f'{result.steps} steps after {result.warmup}')
        where = 'allocated on the GPU'
        if conditions.device == 'cpu':
            where = 'resident set of the process'
        parts.append(f'memory: {where}')
        if conditions.clock != 'wall':
            parts.append('processor time')
    return f'{result.protocol}: {"; ".join(parts)}'


def cells(result: Result) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of a result's table; a row without figures says why in their place."""
    columns = COLUMNS[result.protocol]
    head = ['model', *(() if result.protocol == 'flops' else ('batch',))]
    lines = []
    for row in result.rows:
        line = [row.model.label]
        if result.protocol != 'flops':
            line.append(str(row.batch_size))
        if row.failure:
            line += [row.failure, *[''] * (len(columns) - 1)]
        else:
            line += [show(row.figures) for _, show in columns]
        lines.append(line)
    return [*head, *(name for name, _ in columns)], lines


def terminal(results: Sequence[Result]) -> str:
    """Tables with aligned columns, and what a reader must know below them."""
    text = []
    for result in results:
        head, lines = cells(result)
        whole = [line for line, row in zip(lines, result.rows, strict=True) if not row.failure]
        widths = [max(len(line[n]) for line in [head, *whole]) for n in range(len(head))]
        widths[0] = max(len(line[0]) for line in [head, *lines])
        rule = '-' * (sum(widths) + 2 * (len(widths) - 1))
        text += [describe(result), '', _aligned(head, widths), rule]
        text += [_aligned(line, widths) for line in lines]
        text += ['', *result.remarks, *([''] if result.remarks else [])]
    return '\n'.join(text).rstrip()


def markdown(results: Sequence[Result], machine: Mapping[str, Any]) -> str:
    """The same in Markdown, with the machine below."""
    text = []
    for result in results:
        head, lines = cells(result)
        rows = [head, ['---', *['---:'] * (len(head) - 1)], *lines]
        text += [f'### {describe(result)}', '']
        text += [f'| {" | ".join(cell.replace("|", "/") for cell in row)} |' for row in rows]
        text += ['', *(f'- {remark}' for remark in result.remarks)]
        text += [''] if result.remarks else []
    where = machine.get('gpu') or machine['processor']
    facts = f'{where}; {machine["threads"]} of {machine["cores"]} CPU threads'
    return '\n'.join([*text, f'{facts}; PyTorch {machine["torch"]}.']) + '\n'


def plain(results: Sequence[Result], machine: Mapping[str, Any]) -> dict[str, Any]:
    """Plain numbers, for JSON."""
    return dict(machine=dict(machine), results=[_plain_result(result) for result in results])


def _plain_result(result: Result) -> dict[str, Any]:
    conditions = asdict(result.conditions)
    if result.protocol != 'flops':
        del conditions['batch_size']
    return dict(
        protocol=result.protocol,
        conditions=conditions,
        images=result.source,
        steps=result.steps,
        warmup=result.warmup,
        rows=[_plain_row(row) for row in result.rows],
        remarks=list(result.remarks),
    )


def _plain_row(row: Row) -> dict[str, Any]:
    model = row.model
    return dict(
        label=model.label,
        # Results are published: without the folders of this machine.
        config=Path(model.config).name if Path(model.config).is_file() else model.config,
        options={key: value for key, value in model.options.items() if '.data_root' not in key},
        checkpoint=model.checkpoint and Path(model.checkpoint).name,
        allocation=model.allocation,
        miou=model.miou,
        batch_size=row.batch_size,
        failure=row.failure or None,
        **row.figures,
    )


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = line
    parts = [first.ljust(widths[0])]
    parts += [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
    return '  '.join(parts).rstrip()
