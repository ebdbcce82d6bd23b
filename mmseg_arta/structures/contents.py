"""What the numbers in index tensors must be: checked where the host can read them for nothing.

Tensors on the CPU are read; on other devices that would make the host wait, so there they are only
read with ``MMSEG_ARTA_CHECK=1``. Nothing is read while a graph is traced.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

#: Environment variable: 1 makes the host read index tensors on any device.
ENV = 'MMSEG_ARTA_CHECK'

#: Coordinates are at most so far from 0, so that differences are numbers of 32 bits.
FARTHEST = 1 << 30


# Whether tensors on the CPU are read.
_reading = True


@contextmanager
def unchecked() -> Generator[None]:
    """Within this context nothing is read on a CPU either: for counts of what a GPU would do."""
    global _reading
    before, _reading = _reading, False
    try:
        yield
    finally:
        _reading = before


def readable(tensor: Tensor) -> bool:
    """Whether the numbers of a tensor like this one are to be checked."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    # Subclasses may hold no numbers.
    if type(tensor) is not Tensor and type(tensor) is not nn.Parameter:
        return False
    kind = tensor.device.type
    return (kind == 'cpu' and _reading) or (
        kind not in ('cpu', 'meta') and os.environ.get(ENV) == '1'
    )


def numbers(tensor: Tensor) -> Any:
    """A readable tensor as an array, without a copy if it lies on the CPU."""
    if tensor.requires_grad or not tensor.is_cpu:
        tensor = tensor.detach().cpu()
    return tensor.numpy()


def within(least: int | None, most: int, **tensors: Tensor) -> None:
    """All numbers of integer tensors are in a range; ``least`` None for no lower bound.

    Raises:
        IndexError: if one is not; with the tensor's name, the number and its place.
    """
    for name, tensor in tensors.items():
        values = numbers(tensor)
        if not values.size:
            continue
        if values.max() <= most and (least is None or values.min() >= least):
            continue
        wrong = values > most
        if least is not None:
            wrong |= values < least
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        expected = f'up to {most}' if least is None else f'from {least} to {most}'
        raise IndexError(f'{name} must hold numbers {expected}, found {values[place]} at {place}')


def one_after_the_other(start: Tensor, total: int, cluster_size: int) -> None:
    """Clusters are consecutive rows, together all of them, none longer than may be.

    Args:
        start: ``(K + 1,)`` int64 first row of every cluster.
        total: rows.
        cluster_size: rows of a cluster at most.

    Raises:
        ValueError: if they are not.
    """
    values = numbers(start)
    if values[0] != 0 or values[-1] != total:
        raise ValueError(
            f'start must begin with 0 and end with {total}, one cluster for every row, found '
            f'{values[0]} and {values[-1]}'
        )
    # First that no number is far away: differences cannot overflow then.
    within(0, total, start=start)
    lengths = np.diff(values)
    if lengths.size and not (lengths.min() >= 0 and lengths.max() <= cluster_size):
        place = int(np.argmax((lengths < 0) | (lengths > cluster_size)))
        raise ValueError(
            f'start must rise by 0 to {cluster_size} rows from cluster to cluster, found '
            f'{values[place]} and then {values[place + 1]} at {place}'
        )
