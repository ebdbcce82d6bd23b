"""Cost of a segmentor's layers one by one (STEP figures 9 and 10)."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.model import BaseModel

from .flops.counter import OperatorCounter

# The modules that count as one layer each.
_LAYER = re.compile(r'(backbone\.(layers\.\d+|halting\.heads\.\d+|policy_net)|decode_head)(\.|$)')


@dataclass(frozen=True)
class LayerCost:
    """A layer's share of a forward pass.

    Attributes:
        name: dotted name of the module; 'rest' for what belongs to none.
        gmacs: 10^9 multiply-accumulates.
        ms: milliseconds, the fastest of the repetitions; None for what no module runs as a whole.
    """

    name: str
    gmacs: float
    ms: float | None


def layer_costs(model: BaseModel, run: Callable[[], Any], repeat: int = 3) -> list[LayerCost]:
    """Cost of all layers in running order.

    Args:
        model: a segmentor.
        run: a forward pass of it on one image.
        repeat: passes that are timed.
    """
    with OperatorCounter(model) as counter:
        run()
    macs: Counter[str] = Counter()
    for caller, count in counter.executed.items():
        layer = _LAYER.match(caller.path)
        macs[layer.group(1) if layer else 'rest'] += count
    times = [_timed(model, run) for _ in range(repeat)]
    order = dict.fromkeys([*(name for name in times[0] if name in macs), *macs])
    order.pop('rest', None)
    return [
        LayerCost(
            name,
            macs[name] / 1e9,
            min((spent[name] for spent in times if name in spent), default=None),
        )
        for name in [*order, 'rest']
    ]


def _timed(model: BaseModel, run: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds inside every layer's forward, in the order in which they end."""
    spent: dict[str, float] = {}
    started: dict[str, float] = {}
    device = next(model.parameters()).device

    def now() -> float:
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        return 1000 * time.perf_counter()

    def begin(name: str) -> Callable[..., None]:
        return lambda *_: started.__setitem__(name, now())

    def end(name: str) -> Callable[..., None]:
        return lambda *_: spent.__setitem__(name, spent.get(name, 0.0) + now() - started[name])

    handles = []
    for name, module in model.named_modules():
        match = _LAYER.fullmatch(name)
        if match:
            handles.append(module.register_forward_pre_hook(begin(name)))
            handles.append(module.register_forward_hook(end(name)))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return spent
