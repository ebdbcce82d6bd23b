"""Counts the operators that a model really calls, by the module that calls them."""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from ...structures import MASK_STEP
from .formulas import count_call, is_custom


class Caller(NamedTuple):
    """Where an operator was called from.

    Attributes:
        path: dotted name of the innermost module, '' for the model itself.
        method: the innermost of that module's public methods.
        mask_step: whether it is part of the product of queries and mask features, see
            :func:`~mmseg_arta.structures.mask_step`.
    """

    path: str
    method: str
    mask_step: bool


# What every module inherits is called from outside of forward passes.
_INHERITED = frozenset(dir(BaseModule)) - {'forward'}

_MARK_ENTERED, _MARK_LEFT = (
    'profiler::_record_function_enter_new',
    'profiler::_record_function_exit',
)


class OperatorCounter(TorchDispatchMode):
    """Context in which every operator is counted.

    Meanwhile the public methods of the model's modules note when they are entered: hooks would
    not do, since heads of MMSegmentation are entered by ``predict`` and call their own
    ``forward``, which runs no hooks.

    Args:
        model: whose modules calls are booked on.
        dry: leave out the arithmetic and return zeros, see :func:`skipped`.

    Attributes:
        operators: multiply-accumulates that fvcore counts too, by caller.
        kernels: those of custom operators and weighted gathers, by caller.
        dense_mask_step: those of the dense products that marked mask steps stand for, by caller.
        uncounted: calls of custom operators without a formula, by name.
    """

    def __init__(self, model: nn.Module, dry: bool = False) -> None:
        super().__init__()
        self._model = model
        self._dry = dry
        self._calls: list[tuple[str, str]] = []
        self._marks: list[bool] = []
        self._noted: Any = None
        self.operators: Counter[Caller] = Counter()
        self.kernels: Counter[Caller] = Counter()
        self.dense_mask_step: Counter[Caller] = Counter()
        self.uncounted: Counter[str] = Counter()

    @property
    def executed(self) -> Counter[Caller]:
        """All multiply-accumulates that operators tell of, whoever counts them, by caller."""
        return self.operators + self.kernels

    def __enter__(self) -> OperatorCounter:
        self._noted = noting(self._model, self._calls)
        self._noted.__enter__()
        super().__enter__()
        return self

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        super().__exit__(exc_type, exc_val, exc_tb)
        self._noted.__exit__(exc_type, exc_val, exc_tb)

    @property
    def caller(self) -> Caller:
        """Where the present operator is called from."""
        path, method = self._calls[-1] if self._calls else ('', '')
        return Caller(path, method, any(self._marks))

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
        name = operator._qualified_op_name
        if name == _MARK_ENTERED:
            self._marks.append(args[0] == MASK_STEP)
            if self._marks[-1]:
                self.dense_mask_step[self.caller] += int(args[1])
            return result
        if name == _MARK_LEFT:
            self._marks.pop()
            return result
        count = count_call(operator, args, kwargs, result)
        if count.macs is None:
            self.uncounted[name] += 1
        elif count.macs:
            book = self.kernels if count.kernel else self.operators
            book[self.caller] += count.macs
        return result


@contextmanager
def noting(model: nn.Module, calls: list[tuple[str, str]]) -> Generator[None]:
    """Within this context ``calls`` ends with the module and method that run."""
    changed: list[tuple[nn.Module, str]] = []
    try:
        for path, module in model.named_modules():
            for name in dir(type(module)):
                if name.startswith('_') or name in _INHERITED or name in vars(module):
                    continue
                if inspect.isfunction(inspect.getattr_static(type(module), name)):
                    noted = _noted(getattr(module, name), (path, name), calls)
                    vars(module)[name] = noted
                    changed.append((module, name))
        yield
    finally:
        for module, name in changed:
            del vars(module)[name]


def _noted(
    method: Callable[..., Any], call: tuple[str, str], calls: list[tuple[str, str]]
) -> Callable[..., Any]:
    @functools.wraps(method)
    def run(*args: Any, **kwargs: Any) -> Any:
        calls.append(call)
        try:
            return method(*args, **kwargs)
        finally:
            calls.pop()

    return run


# Operators without side effects that take most of a forward pass's time.
_EXPENSIVE = frozenset(
    {
        'mm',
        'bmm',
        'addmm',
        'baddbmm',
        'convolution',
        'linear',
        'native_layer_norm',
        'native_group_norm',
        'native_batch_norm',
        '_native_batch_norm_legit_no_training',
        '_batch_norm_no_update',
        'cudnn_batch_norm',
        '_scaled_dot_product_flash_attention_for_cpu',
        '_scaled_dot_product_flash_attention',
        '_scaled_dot_product_efficient_attention',
        '_scaled_dot_product_cudnn_attention',
        '_embedding_bag',
        '_embedding_bag_forward_only',
        'upsample_bilinear2d',
        'upsample_bicubic2d',
        'grid_sampler_2d',
        'gelu',
        'silu',
        'relu',
        'sigmoid',
        'tanh',
        '_softmax',
        'exp',
        'pow',
        'mean',
    }
)


def skipped(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any | None:
    """What an expensive operator would return, with zeros for values.

    What a forward pass costs depends on features only through the tokens that get allocated.
    Where that is decided beforehand, expensive operators need not compute. Positions, indices and
    counts are computed as ever, so every shape is that of a real run.

    Args:
        func: an ``OpOverload``.
        args, kwargs: its arguments.

    Returns:
        None if the operator has to run: because it is cheap, writes into its arguments, or
        results in integers, which may be positions.
    """
    operator = func._overloadpacket
    if operator.__name__ not in _EXPENSIVE and not is_custom(operator):
        return None
    if func._schema.is_mutable:
        return None
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    if not tensors or not any(tensor.is_floating_point() for tensor in tensors):
        return None
    device = tensors[0].device
    meta_args, meta_kwargs = tree_map_only(Tensor, lambda t: t.to('meta'), (args, dict(kwargs)))
    result = func(*meta_args, **meta_kwargs)
    first = result[0] if isinstance(result, (tuple, list)) else result
    if not isinstance(first, Tensor) or not first.is_floating_point():
        return None
    return tree_map_only(Tensor, lambda t: _zeros(t, device), result)


def _zeros(like: Tensor, device: torch.device) -> Tensor:
    """Zeros with the strides of ``like``, so that views succeed or fail as on the real result."""
    if device.type != 'cpu' or not like.numel():
        return torch.zeros_like(like, device=device)
    span = 1 + sum((size - 1) * step for size, step in zip(like.shape, like.stride(), strict=True))
    # NumPy asks the system for zeroed memory, which takes no time until somebody reads it.
    memory = np.zeros(span * like.element_size(), dtype=np.uint8)
    return torch.from_numpy(memory).view(like.dtype).as_strided(like.shape, like.stride())
