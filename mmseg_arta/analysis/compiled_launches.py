"""Counts the kernels that a compiled model starts: those made for it, and the operators left.

Inductor merges chains of elementwise operators, sums and norms into kernels of its own; products,
attention and custom operators stay. What it merges on a CPU is about what it merges on a GPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from .launches import NO_KERNEL, is_view

#: What stands for kernels that Inductor has made.
GENERATED = 'generated'

_MOST_RUNS = 6


def kernels_named() -> AbstractContextManager[Any]:
    """Context in which a model must be compiled for its kernels to be counted."""
    from torch._inductor import config

    return config.patch({'cpp.enable_kernel_profile': True})


def count_compiled(step: Callable[[], Any]) -> Counter[str]:
    """Kernels that a step starts, by the operator's name; :data:`GENERATED` for all of Inductor's.

    Args:
        step: what runs a model on a CPU that is compiled within :func:`kernels_named`.

    Raises:
        RuntimeError: if it is compiled anew whenever it runs.
    """
    _settle(step)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profile:
        step()
    found: Counter[str] = Counter()
    for event in profile.events() or ():
        if _is_generated(event.name):
            found[GENERATED] += 1
        elif _starts_kernel(event.name) and not any(map(_starts_kernel, _above(event))):
            found[event.name.partition('::')[2]] += 1
    return found


def _settle(step: Callable[[], Any]) -> None:
    """Run a step until nothing is compiled any more: what is made at first use is a change."""
    from torch._dynamo.utils import counters

    before = -1
    for _ in range(_MOST_RUNS):
        graphs = counters['stats']['unique_graphs']
        if graphs == before:
            return
        before = graphs
        step()
    raise RuntimeError(f'the model was compiled anew in each of {_MOST_RUNS} runs')


def _above(event: Any) -> list[str]:
    """Names of the operators that an operator is a part of."""
    names = []
    while event.cpu_parent is not None:
        event = event.cpu_parent
        names.append(event.name)
    return names


def _is_generated(name: str) -> bool:
    return 'cpp_fused' in name


def _starts_kernel(name: str) -> bool:
    """Whether a profile's entry is an operator that starts a kernel, not one made of others."""
    space, _, operator = name.partition('::')
    packet = getattr(getattr(torch.ops, space, None), operator, None) if operator else None
    if packet is None or operator in NO_KERNEL:
        return False
    overloads = [getattr(packet, overload) for overload in packet.overloads()]
    # Some are known to TorchScript alone.
    overloads = [one for one in overloads if torch._C._dispatch_has_kernel(one.name())]
    implicit = torch._C.DispatchKey.CompositeImplicitAutograd
    made_of_others = any(one.has_kernel_for_dispatch_key(implicit) for one in overloads)
    return bool(overloads) and not made_of_others and not all(map(is_view, overloads))
