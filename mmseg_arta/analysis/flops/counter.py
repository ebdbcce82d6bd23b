"""Counts the operators that a model really calls, by the module that calls them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from .callers import Caller, find_caller, module_paths
from .dry_run import skipped
from .formulas import count_call


class OperatorCounter(TorchDispatchMode):
    """Context in which every operator is counted.

    Args:
        model: whose modules calls are booked on.
        dry: leave out the arithmetic and return zeros, see
            :mod:`mmseg_arta.analysis.flops.dry_run`.

    Attributes:
        operators: multiply-accumulates that fvcore counts too, by caller.
        kernels: those of custom operators and weighted gathers, by caller.
        uncounted: calls of custom operators without a formula, by name.
    """

    def __init__(self, model: nn.Module, dry: bool = False) -> None:
        super().__init__()
        self._paths = module_paths(model)
        self._dry = dry
        self.operators: Counter[Caller] = Counter()
        self.kernels: Counter[Caller] = Counter()
        self.uncounted: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = skipped(func, args, kwargs) if self._dry else None
        if result is None:
            result = func(*args, **kwargs)
        operator = func._overloadpacket
        count = count_call(operator, args, kwargs, result)
        if count.macs is None:
            self.uncounted[operator._qualified_op_name] += 1
        elif count.macs:
            book = self.kernels if count.kernel else self.operators
            book[find_caller(self._paths)] += count.macs
        return result
