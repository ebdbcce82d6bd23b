"""What options of models, data sets, hooks and metrics may be: a line per option in constructors.

Every error is a ``ValueError`` that names class and option, what was found and what is expected.
Checks stand at the head of a constructor: what is refused has taken no memory yet, so numbers
that decide how much is taken have an upper bound, too.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import torch

#: Most channels, classes, queries and tokens of a layer.
MOST_CHANNELS = 1 << 16
#: Most layers, stages or blocks.
MOST_LAYERS = 1 << 10
#: Largest side in pixels of a patch, an image or a window.
MOST_PIXELS = 1 << 16
#: Most patches of a grid that has a parameter for each.
MOST_PATCHES = 1 << 20
#: Largest hidden channels over channels.
MOST_RATIO = 64
#: Largest weight of a loss, and largest layer scale at the start.
MOST_WEIGHT = 1e6
#: Largest label of a pixel, and largest integer without another bound.
MOST_WHOLE = (1 << 31) - 1
#: Largest number that single precision holds.
MOST_NUMBER = torch.finfo(torch.float32).max


def fail(owner: object, name: str, expected: str, value: object) -> ValueError:
    """The error for an option; ``owner`` is the object it belongs to, or what to call it."""
    return ValueError(f'{_label(owner)}.{name} must be {expected}, found {value!r}')


def check_whole(
    owner: object,
    least: int = 1,
    most: int = MOST_WHOLE,
    optional: bool = False,
    **values: Any,
) -> None:
    """Options are integers from ``least`` to ``most``, or None where ``optional``."""
    for name, value in values.items():
        if not (optional and value is None) and not _is_whole(value, least, most):
            expected = f'an integer from {least} to {most}'
            if _is_whole(value, least, math.inf) or _is_whole(value, -math.inf, most):
                expected = f'at least {least}' if value < least else f'at most {most}'
            raise fail(owner, name, expected + _or_none(optional), value)


def check_number(
    owner: object,
    least: float = -MOST_NUMBER,
    most: float = MOST_NUMBER,
    above: float | None = None,
    below: float | None = None,
    optional: bool = False,
    **values: Any,
) -> None:
    """Options are finite numbers from ``least`` to ``most``, or between ``above`` and ``below``."""
    for name, value in values.items():
        if not (optional and value is None) and not _is_number(value, least, most, above, below):
            expected = _range('a finite number', least, most, above, below)
            raise fail(owner, name, expected + _or_none(optional), value)


def check_share(owner: object, **values: Any) -> None:
    """Options are in [0, 1]."""
    check_number(owner, 0.0, 1.0, **values)


def check_rate(owner: object, **values: Any) -> None:
    """Options are probabilities to drop something, in [0, 1): something must be left."""
    check_number(owner, 0.0, below=1.0, **values)


def check_flag(owner: object, **values: Any) -> None:
    """Options are True or False; 1 and 0 count as these."""
    for name, value in values.items():
        if not (isinstance(value, bool) or (isinstance(value, int) and value in (0, 1))):
            raise fail(owner, name, 'True or False', value)


def check_choice(owner: object, known: Iterable[str], **values: Any) -> None:
    """Options are one of some names."""
    names = tuple(known)
    for name, value in values.items():
        if not isinstance(value, str) or value not in names:
            *others, last = map(repr, names)
            expected = f'{", ".join(others)} or {last}' if others else last
            raise fail(owner, name, expected, value)


def check_text(owner: object, optional: bool = False, **values: Any) -> None:
    """Options are strings that are not empty."""
    for name, value in values.items():
        if not (optional and value is None) and not (isinstance(value, str) and value):
            raise fail(owner, name, f'a string, not empty{_or_none(optional)}', value)


def check_config(
    owner: object, needed: Collection[str] = (), optional: bool = False, **values: Any
) -> None:
    """Options are dicts with the keys ``needed``, such as 'type'."""
    for name, value in values.items():
        if optional and value is None:
            continue
        if not isinstance(value, Mapping) or not all(key in value for key in needed):
            keys = f' with {", ".join(needed)}' if needed else ''
            raise fail(owner, name, f'a dict{keys}{_or_none(optional)}', value)


def check_init_cfg(owner: object, init_cfg: object) -> None:
    """``init_cfg`` is what mmengine takes: a dict with 'type', several of them, or None."""
    several = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg or {}]
    right = init_cfg is None or isinstance(init_cfg, (Mapping, list, tuple))
    if not right or not all(
        isinstance(one, Mapping) and (not one or 'type' in one) for one in several
    ):
        raise fail(owner, 'init_cfg', 'a dict with type, a list of them or None', init_cfg)


def check_wholes(
    owner: object,
    least: int = 1,
    most: int = MOST_WHOLE,
    counts: int | Sequence[int] | None = None,
    **values: Any,
) -> tuple[int, ...]:
    """An option is a sequence of integers from ``least`` to ``most``.

    Args:
        owner: what it belongs to.
        least, most: of every one.
        counts: how many there are, or the numbers that there may be; None: one or more.
        values: the option by its name.

    Returns:
        the integers.
    """
    ((name, value),) = values.items()
    found = _items(value)
    allowed = (counts,) if isinstance(counts, int) else counts
    if (
        found is None
        or (not found if allowed is None else len(found) not in allowed)
        or not all(_is_whole(one, least, most) for one in found)
    ):
        expected = f'{_how_many(allowed)}integers from {least} to {most}'
        raise fail(owner, name, expected, value)
    return tuple(int(one) for one in found)


def check_each(owner: object, least: int, most: int, count: int, **values: Any) -> tuple[int, ...]:
    """An option is an integer from ``least`` to ``most`` that counts ``count`` times, or so many.

    Returns:
        ``count`` integers.
    """
    ((name, value),) = values.items()
    found = (value,) * count if isinstance(value, Integral) else _items(value)
    if not found or len(found) != count or not all(_is_whole(one, least, most) for one in found):
        raise fail(owner, name, f'an integer from {least} to {most}, or {count} of them', value)
    return tuple(int(one) for one in found)


def check_numbers(
    owner: object,
    least: float = -MOST_NUMBER,
    most: float = MOST_NUMBER,
    above: float | None = None,
    count: int | None = None,
    **values: Any,
) -> tuple[float, ...]:
    """An option is a sequence of finite numbers, see :func:`check_wholes`.

    Returns:
        the numbers.
    """
    ((name, value),) = values.items()
    found = _items(value)
    if (
        found is None
        or (not found if count is None else len(found) != count)
        or not all(_is_number(one, least, most, above, None) for one in found)
    ):
        allowed = None if count is None else (count,)
        expected = _range(f'{_how_many(allowed)}finite numbers', least, most, above, None)
        raise fail(owner, name, expected, value)
    return tuple(float(one) for one in found)


def check_thresholds(owner: object, **values: Any) -> tuple[float, ...]:
    """An option is a sequence of numbers to compare with, infinite ones too.

    Returns:
        the numbers.
    """
    ((name, value),) = values.items()
    found = _items(value)
    # NaN is neither, nor is an integer beyond double precision.
    if not found or not all(
        _is_real(one) and (abs(one) <= 1e300 or abs(one) == math.inf) for one in found
    ):
        raise fail(owner, name, 'one or more numbers', value)
    return tuple(float(one) for one in found)


def check_ascending(owner: object, least: int, most: int, **values: Any) -> tuple[int, ...]:
    """An option names some of the numbers from ``least`` to ``most``, in ascending order."""
    ((name, value),) = values.items()
    found = _items(value)
    if (
        not found
        or not all(_is_whole(one, least, most) for one in found)
        or sorted(set(found)) != list(found)
    ):
        raise fail(owner, name, f'ascending integers within {least} to {most}', value)
    return tuple(int(one) for one in found)


def check_heads(owner: object, channels: int, **values: Any) -> None:
    """Options are numbers of attention heads that divide the channels."""
    check_whole(owner, 1, MOST_CHANNELS, **values)
    for name, value in values.items():
        if isinstance(value, int) and channels % value:
            raise ValueError(
                f'{_label(owner)}.{name} must divide the {channels} channels, found {value!r}'
            )


def check_ratio(owner: object, channels: Iterable[int], **values: Any) -> None:
    """Options are hidden channels over ``channels``, and leave at least one hidden channel."""
    check_number(owner, most=MOST_RATIO, above=0.0, **values)
    smallest = min(channels)
    for name, value in values.items():
        if isinstance(value, Real) and int(smallest * float(value)) < 1:
            raise fail(owner, name, f'large enough for a channel of {smallest}', value)


def _label(owner: object) -> str:
    return owner if isinstance(owner, str) else type(owner).__name__


def _is_whole(value: Any, least: float, most: float) -> bool:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    return whole and least <= int(value) <= most


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_number(
    value: Any, least: float, most: float, above: float | None, below: float | None
) -> bool:
    if not _is_real(value):
        return False
    # Integers may be larger than any float; comparing takes both.
    return (
        least <= value <= most
        and (above is None or value > above)
        and (below is None or value < below)
        and math.isfinite(value)
    )


def _items(value: object) -> tuple[Any, ...] | None:
    """Of a sequence or an array; None for anything else."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        return None
    return tuple(value)


def _range(kind: str, least: float, most: float, above: float | None, below: float | None) -> str:
    low = '' if least <= -MOST_NUMBER else f'[{least:g}'
    low = low if above is None else f'({above:g}'
    high = '' if most >= MOST_NUMBER else f'{most:g}]'
    high = high if below is None else f'{below:g})'
    if low and high:
        return f'{kind} in {low}, {high}'
    if low:
        return f'{kind} {"of at least" if low[0] == "[" else "above"} {low[1:]}'
    if high:
        return f'{kind} {"of at most" if high[-1] == "]" else "below"} {high[:-1]}'
    return kind


def _how_many(allowed: Sequence[int] | None) -> str:
    if isinstance(allowed, range):
        return f'{allowed[0]} to {allowed[-1]} '
    return 'one or more ' if allowed is None else f'{" or ".join(map(str, allowed))} '


def _or_none(optional: bool) -> str:
    return ', or None' if optional else ''
