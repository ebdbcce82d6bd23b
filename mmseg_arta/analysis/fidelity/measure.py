"""Counting the rows of the fidelity tables, and keeping what was counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from ..flops import OperationCount, count_operations
from ..flops.load import build_model, load_config
from ..flops.report import write_json
from .rows import Family, Row


@dataclass(frozen=True)
class Measurement:
    """What a row came to.

    Attributes:
        params: parameters.
        macs: multiply-accumulates as executed.
        macs_published: multiply-accumulates as the papers count them.
        components: the latter by component, ``'component'`` or ``'component/part'``.
        tokens: tokens of all levels, 0 for dense models.
    """

    params: int
    macs: int
    macs_published: int
    components: Mapping[str, int] = field(default_factory=dict)
    tokens: int = 0

    @classmethod
    def of(cls, count: OperationCount, without: tuple[str, ...] = ()) -> Measurement:
        """From a count, leaving out some components."""
        kept = {name: part for name, part in count.components.items() if name not in without}
        components = {}
        for name, component in kept.items():
            components[name] = component.macs_published
            for part, inner in component.parts.items():
                components[f'{name}/{part}'] = inner.macs_published
        return cls(
            count.params,
            sum(component.macs for component in kept.values()),
            sum(component.macs_published for component in kept.values()),
            components,
            sum(count.tokens.values()),
        )


def measure(
    family: Family, progress: Callable[[Row], None] | None = None
) -> Iterator[tuple[Row, Measurement | str]]:
    """Count the rows of a family, one model at a time.

    Args:
        family: what to count.
        progress: told before every row.

    Yields:
        every row with its measurement, or with the reason why there is none.
    """

    def source(row: Row) -> tuple[str, str]:
        return row.config, str(sorted(row.options.items()))

    for _, group in groupby(sorted(family.rows, key=source), key=source):
        rows = list(group)
        try:
            model: Any = build_model(load_config(rows[0].config, rows[0].options))
        except (OSError, ValueError) as error:
            yield from ((row, str(error)) for row in rows)
            continue
        for row in rows:
            if progress is not None:
                progress(row)
            try:
                count = count_operations(model, row.shape, row.allocation, dry=row.dry)
                yield row, Measurement.of(count, row.without)
            except ValueError as error:
                yield row, str(error)


def read_measurements(path: str | Path) -> dict[str, Measurement]:
    """Measurements by the rows' keys; none if there is no such file.

    Raises:
        ValueError: if the file holds something else.
    """
    path = Path(path)
    if not path.exists():
        return {}
    try:
        loaded = json.loads(path.read_text(encoding='utf-8'))
        return {key: Measurement(**values) for key, values in loaded.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f'{path} holds no measurements of this tool: {error}') from error


def write_measurements(path: str | Path, measurements: Mapping[str, Measurement]) -> None:
    """Keep measurements, so that a chapter can be measured anew without the others."""
    write_json(path, {key: asdict(measurements[key]) for key in sorted(measurements)})
