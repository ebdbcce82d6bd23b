"""Calls the ops with arguments of which some lie: ``python tests/ops/run_fuzz.py --help``.

Every case follows from a seed and its number. What must not happen: that the process ends or hangs,
that memory comes back which nobody has written, or that an error does not name an argument.
"""

from __future__ import annotations

import collections
import math
import random
import re
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .fuzz_calls import OPS, Arguments

#: Numbers where counting goes wrong.
EXTREMES = (
    *(0, -1, -2, 1, 2, 3, 5, 7, -1000, 10**6, 1 << 20, (1 << 31) - 1, 1 << 31, -(1 << 31)),
    *(1 << 32, -(1 << 32), 1 << 61, 1 << 62, (1 << 63) - 1, -(1 << 63)),
)
#: No number on the host is one of these to PyTorch.
BEYOND = (1 << 63, -(1 << 63) - 1)
STRANGE = (math.nan, math.inf, -math.inf, 1e38, -1e38, 1e-45, -1.0, 0.0)
TYPES = (
    *(torch.complex64, torch.complex128, torch.bool, torch.float16, torch.bfloat16),
    *(torch.float64, torch.float32, torch.int8, torch.uint8, torch.int32, torch.int64),
)

#: What is an answer to a lie.
ERRORS = (ValueError, IndexError, TypeError, RuntimeError, MemoryError, NotImplementedError)
# Too much memory is nobody's fault but that of the sizes.
_NO_MEMORY = re.compile("can't allocate memory|not enough memory|could not get memory|overflow")


def _other_numbers(rng: random.Random, tensor: Tensor) -> Tensor:
    """Some numbers, or all, are what they must not be; or fall where they should rise."""
    if not tensor.numel() or tensor.dtype == torch.bool or tensor.is_complex():
        return tensor
    if tensor.is_floating_point():
        value: float = rng.choice(STRANGE)
    else:
        info = torch.iinfo(tensor.dtype)
        value = rng.choice([n for n in EXTREMES if info.min <= n <= info.max])
    changed = tensor.clone()
    way = rng.randrange(4)
    if way == 0:
        return changed.fill_(value)
    if way == 1:
        return changed.flip(0)
    flat = changed.view(-1)
    for _ in range(way - 1):
        flat[rng.randrange(len(flat))] = value
    return changed


def _other_shape(rng: random.Random, tensor: Tensor) -> Tensor:
    way = rng.randrange(8)
    if way == 0:
        return tensor.unsqueeze(rng.randint(0, tensor.ndim))
    if way == 1:
        return tensor.flatten()
    if way == 2 and tensor.ndim:
        return tensor.narrow(0, 0, max(tensor.shape[0] - 1, 0))
    if way == 3 and tensor.ndim:
        return tensor.narrow(rng.randrange(tensor.ndim), 0, 0)
    if way == 4 and tensor.ndim > 1:
        return tensor.transpose(-1, -2)
    if way == 5:
        return torch.cat((tensor, tensor[:1]))
    if way == 6:
        # No numbers, and any number of them.
        shape = list(tensor.shape)
        empty, giant = rng.randrange(len(shape)), rng.randrange(len(shape))
        shape[giant], shape[empty] = rng.choice((1 << 31, 1 << 40)), 0
        return tensor.new_empty(shape)
    return torch.stack((tensor, tensor), -1)[..., 0]  # this one is no lie


def _lie(rng: random.Random, value: Any) -> Any:
    """Something else in an argument's place."""
    if isinstance(value, Tensor):
        way = rng.randrange(10)
        if way == 0:
            return value.to('meta')
        if way == 1:
            return value.to(rng.choice(TYPES))
        return (_other_shape if way < 5 else _other_numbers)(rng, value)
    if isinstance(value, tuple):
        changed = list(value)
        way = rng.randrange(4)
        if way == 0 or not changed:
            changed.append(rng.choice(EXTREMES))
        elif way == 1:
            changed.pop(rng.randrange(len(changed)))
        else:
            changed[rng.randrange(len(changed))] = rng.choice((*EXTREMES, *BEYOND))
        return tuple(changed)
    if isinstance(value, str):
        return rng.choice(('gpu', '', 'reference', 'cpu\0'))
    if isinstance(value, float):
        return rng.choice(STRANGE)
    return rng.choice((*EXTREMES, *BEYOND))


@dataclass
class Report:
    """What came of the cases.

    Attributes:
        answered: by op, how often it returned without a lie, and with one.
        errors: by op and kind, how often it raised.
        faults: what must not be.
    """

    answered: collections.Counter = field(default_factory=collections.Counter)
    errors: collections.Counter = field(default_factory=collections.Counter)
    faults: list[str] = field(default_factory=list)


def _results(found: Any) -> list[Tensor]:
    if isinstance(found, Tensor):
        return [found]
    return [tensor for tensor in found if isinstance(tensor, Tensor)]


def _stored(values: Tensor) -> Tensor:
    """Without repetitions that take no memory: one that is expanded may be too large to look at."""
    return values[tuple(slice(1) if step == 0 else slice(None) for step in values.stride())]


def _moderate(values: Tensor, besides_nan: bool = False) -> bool:
    """Whether sums and products of such numbers stay finite."""
    # In parts, since results may take most of the memory that there is.
    for part in values.reshape(-1).split(1 << 20):
        seen = part[~part.isnan()] if besides_nan else part
        if not bool(seen.isfinite().all() and (seen.abs() < 1e30).all()):
            return False
    return True


def _unwritten(given: Arguments, found: Any) -> bool:
    """Whether results hold what new memory is filled with, though arithmetic gives no reason."""
    results, tensors = (
        [_stored(t) for t in some if t.device.type != 'meta' and t.numel()]
        for some in (_results(found), _results(given.values()))
    )
    floats = [t for t in results if t.is_floating_point()]
    # Positions that disagree with the `lse` of a backward pass make probabilities of 1e30 and more.
    explained = (
        any(not _moderate(t) for t in tensors if t.is_floating_point())
        or any(isinstance(v, float) and not v < 1e30 for v in given.values())
        or any(not _moderate(t, besides_nan=True) for t in floats)
    )
    return any(bool(t.isnan().any()) for t in floats if not explained) or any(
        int(t.max()) == torch.iinfo(torch.int64).max for t in results if t.dtype == torch.int64
    )


def run(number: int, seed: int, report: Report) -> None:
    """One case."""
    rng = random.Random(seed * 1_000_003 + number)
    make = OPS[number % len(OPS)]
    function, given = make(rng)
    lies = []
    for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 3))):
        name = rng.choice(list(given))
        lies.append(name)
        try:
            given = given | {name: _lie(rng, given[name])}
        except RuntimeError:
            lies.pop()  # PyTorch does not make such a tensor
    where = f'case {number} of seed {seed}: {make.__name__} with lies about {lies or "nothing"}'
    try:
        found = function(**given)
    except ERRORS as error:
        message = f'{type(error).__name__}: {error}'
        report.errors[make.__name__, type(error).__name__] += 1
        if not lies:
            report.faults.append(f'{where}: {message}')
        elif not (
            any(re.search(rf'\b{name}\b', message) for name in (*given, 'canvas', 'size'))
            or _NO_MEMORY.search(message)
        ):
            report.faults.append(f'{where}: names no argument: {message}')
        return
    report.answered[make.__name__, bool(lies)] += 1
    if _unwritten(given, found):
        report.faults.append(f'{where}: returned memory that nobody has written')


def run_all(
    count: int, seed: int = 0, seconds: float = math.inf, first: int = 0, most_faults: int = 20
) -> tuple[int, Report]:
    """Cases ``first`` and so on, in memory that is filled before.

    Returns:
        how many were run, and what came of them.
    """
    report, begin, number = Report(), time.monotonic(), first
    was = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        for number in range(first, first + count):
            run(number, seed, report)
            if len(report.faults) >= most_faults or time.monotonic() - begin > seconds:
                break
    finally:
        torch.use_deterministic_algorithms(was)
    return number + 1 - first, report
