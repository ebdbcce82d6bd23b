"""Statistics over images, as STEP's tables 2 and 7 have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .record import TokenUse


@dataclass(frozen=True)
class Spread:
    """Mean, largest and smallest of some numbers."""

    mean: float
    max: float
    min: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one number."""
        if not values:
            raise ValueError('there are no images to average over')
        return cls(sum(values) / len(values), max(values), min(values))


def merging_table(uses: Sequence[TokenUse]) -> dict[int, Spread]:
    """Tokens of every superpatch size, over images (STEP table 2)."""
    sizes = sorted({size for use in uses for size in use.superpatches})
    return {size: Spread.of([use.superpatches.get(size, 0) for use in uses]) for size in sizes}


def halting_table(uses: Sequence[TokenUse]) -> tuple[Spread, ...]:
    """Tokens halted at every halting point, over images (STEP table 7)."""
    points = max((len(use.halted) for use in uses), default=0)
    return tuple(Spread.of([use.halted[point] for use in uses]) for point in range(points))


def render(uses: Sequence[TokenUse], gmacs: Sequence[float], after: Sequence[int] = ()) -> str:
    """Both tables, the reduction of tokens and the cost, as text.

    Args:
        uses: of every image or window.
        gmacs: multiply-accumulates of every test image, in units of 10^9.
        after: blocks before every halting point.
    """
    columns = {f'{size}x{size}': row for size, row in merging_table(uses).items()}
    columns['tokens'] = Spread.of([use.tokens for use in uses])
    columns['patches/token'] = Spread.of([use.patches / max(use.tokens, 1) for use in uses])
    for number, row in enumerate(halting_table(uses)):
        name = f'block {after[number]}' if number < len(after) else f'point {number + 1}'
        columns[f'halted after {name}'] = row
    columns['GMAC per image'] = Spread.of(gmacs)
    width = max(map(len, columns)) + 2
    lines = [f'{"":{width}}{"mean":>10}{"max":>10}{"min":>10}']
    for name, row in columns.items():
        lines.append(f'{name:{width}}{row.mean:10.1f}{row.max:10.1f}{row.min:10.1f}')
    return '\n'.join(lines)
