"""Counts what a GPU would be asked to do: kernels started, waits of the host, copies to the device.

On a fast card a small kernel takes less time than starting it, about 5 microseconds; then the
number of launches decides, not the arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..ops.backend import only_ops_with_kernels_for
from ..structures.contents import unchecked
from .flops.components import ComponentMap
from .flops.counter import noting
from .flops.formulas import count_call

#: Seconds that starting a kernel takes the host.
LAUNCH = 5e-6


@dataclass(frozen=True)
class Card:
    """What a card can do at most, as its vendor says.

    Attributes:
        rates: multiply-accumulates per second by number type, without sparsity.
        bandwidth: bytes per second.
    """

    rates: Mapping[str, float]
    bandwidth: float


def _card(fp32: float, tf32: float, half: float, bandwidth: float) -> Card:
    """Of figures in TFLOPS and TB/s."""
    rates = dict(fp32=fp32, tf32=tf32, bf16=half, fp16=half)
    return Card({name: rate * 5e11 for name, rate in rates.items()}, bandwidth * 1e12)


CARDS = {
    'a100': _card(19.5, 156, 312, 2.04),  # SXM, 80 GB
    'h100': _card(66.9, 495, 989, 3.35),  # SXM
    'h200': _card(66.9, 495, 989, 4.8),
}


@dataclass
class Launches:
    """What some operators ask of a device.

    Attributes:
        dispatched: operators, views among them.
        launched: operators that start a kernel; a custom operator counts as one.
        synced: times that the host waits for the device to learn a value.
        copied: values made on the host that must be brought to the device.
        macs: multiply-accumulates.
        bytes: read and written, if every operator reads its arguments and writes its results once.
    """

    dispatched: int = 0
    launched: int = 0
    synced: int = 0
    copied: int = 0
    macs: int = 0
    bytes: int = 0

    def add(self, other: Launches) -> None:
        """Add the counts of another."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def seconds_to_launch(self) -> float:
        """The host's time at :data:`LAUNCH` a kernel."""
        return self.launched * LAUNCH

    def roofline(self, card: Card, dtype: str) -> float:
        """Seconds that the card needs at least for arithmetic or for memory."""
        return max(self.macs / card.rates[dtype], self.bytes / card.bandwidth)


#: Operators that make no kernel run although their results are no views.
NO_KERNEL = frozenset(
    {
        *('empty', 'empty_like', 'empty_strided', 'new_empty', 'new_empty_strided'),
        *('_unsafe_view', 'resize_', 'set_', 'is_same_size', 'sym_size', 'sym_stride'),
        *('promote_types', 'result_type', 'can_cast'),
        *('lift_fresh', '_record_function_enter_new', '_record_function_exit'),
    }
)
# The size of their result, or what the host does next, depends on values.
_WAIT = frozenset(
    {
        *('_local_scalar_dense', 'is_nonzero', 'equal', 'nonzero', 'masked_select'),
        *('unique_dim', '_unique', '_unique2', 'unique_consecutive', 'argwhere'),
    }
)
# Tensors that a kernel on many tensors takes at most, by the lists that it walks along, and parts
# of them, of so many values each.
_TENSORS_A_KERNEL = (110, 64, 48, 36, 30)
_PARTS_A_KERNEL, _PART = 320, 65536
_INDEXING = frozenset({'index', 'index_put_', 'index_put', '_index_put_impl_'})
# Methods that read a whole tensor on the host, and no operator says so on a CPU.
_READS = frozenset({Tensor.tolist, Tensor.numpy, Tensor.__array__})


class _Reads(TorchFunctionMode):
    """Calls a function at every read of a tensor by the host."""

    def __init__(self, found: Any) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func in _READS:
            self.found()
        return func(*args, **(kwargs or {}))


class LaunchCounter(TorchDispatchMode):
    """Context in which operators are counted, by component.

    What runs outside of a module's methods is ``backward`` or ``optimizer``; see :meth:`phase`.

    Args:
        model: whose modules calls are booked on.

    Attributes:
        parts: counts by component.
        names: launches by name of the operator.
        waits: what made the host wait, ``'component: operator'``.
        on_host: says of a tensor that it lies on the host, whatever the model's device.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model
        self._components = ComponentMap(model)
        self._calls: list[tuple[str, str]] = []
        self._context = ExitStack()
        self.phase = ''
        self.on_host: Callable[[Tensor], bool] = lambda tensor: False
        self.parts: dict[str, Launches] = {}
        self.names: dict[str, int] = {}
        self.waits: dict[str, int] = {}

    def __enter__(self) -> LaunchCounter:
        self._context.enter_context(noting(self._model, self._calls))
        # These checks are made where reading costs nothing.
        self._context.enter_context(unchecked())
        self._context.enter_context(only_ops_with_kernels_for('cuda'))
        self._context.enter_context(_Reads(lambda: self._wait('read')))
        super().__enter__()
        return self

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        super().__exit__(exc_type, exc_val, exc_tb)
        self._context.close()

    @property
    def total(self) -> Launches:
        """All components together."""
        found = Launches()
        for part in self.parts.values():
            found.add(part)
        return found

    def _part(self) -> str:
        if self.phase:
            return self.phase
        path = self._calls[-1][0] if self._calls else ''
        return '/'.join(self._components.of_module(path)) if path else 'model'

    def _count(self) -> Launches:
        return self.parts.setdefault(self._part(), Launches())

    def _wait(self, name: str) -> None:
        self._count().synced += 1
        key = f'{self._part()}: {name}'
        self.waits[key] = self.waits.get(key, 0) + 1

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        count, name = self._count(), func._overloadpacket.__name__
        count.dispatched += 1
        if name == 'lift_fresh':
            # A tensor of host values: torch.tensor(), torch.as_tensor().
            count.copied += 1
        if _waits(name, args, kwargs) and not self.on_host(args[0]):
            self._wait(name)
        if name not in NO_KERNEL and name != '_local_scalar_dense' and not is_view(func):
            kernels = _kernels(name, args)
            count.launched += kernels
            count.macs += count_call(func._overloadpacket, args, kwargs, result).macs or 0
            leaves = tree_leaves((args, kwargs, result))
            tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
            count.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            self.names[name] = self.names.get(name, 0) + kernels
        return result


def _kernels(name: str, args: Sequence[Any]) -> int:
    """Kernels that an operator starts: optimisers take many tensors with each, but not all."""
    if not name.startswith(('_foreach_', '_fused_')):
        return 1
    lists = [item for item in args if isinstance(item, (list, tuple)) and len(item)]
    lists = [item for item in lists if isinstance(item[0], Tensor)]
    if not lists:
        return 1
    tensors = math.ceil(len(lists[0]) / _TENSORS_A_KERNEL[min(len(lists), 5) - 1])
    parts = sum(math.ceil(tensor.numel() / _PART) for tensor in lists[0])
    return max(tensors, math.ceil(parts / _PARTS_A_KERNEL), 1)


def is_view(func: Any) -> bool:
    """Whether all that an operator returns is a view of its arguments."""
    if func._schema.is_mutable or not func._schema.returns:
        return False
    return all(value.alias_info is not None for value in func._schema.returns)


def _waits(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    if name in _INDEXING:
        indices = [item for item in args[1] if isinstance(item, Tensor)]
        return any(index.dtype in (torch.bool, torch.uint8) for index in indices)
    if name == 'repeat_interleave':
        return kwargs.get('output_size') is None
    return name in _WAIT
