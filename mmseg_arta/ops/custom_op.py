"""Defines an op with PyTorch, whatever back ends start its kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import CustomOpDef
from torch.utils.flop_counter import register_flop_formula

from ..structures.contents import readable
from .library import BadIndex, BadSize

_FLOATS = frozenset((torch.float32, torch.float64, torch.float16, torch.bfloat16))
_INTEGERS = frozenset((torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8))

#: What tensors may hold: its name in messages, and the number types; None for any.
_KINDS: dict[str, tuple[str, frozenset[torch.dtype] | None]] = {
    'f': ('floating-point numbers', _FLOATS),
    'i': ('integers', _INTEGERS),
    'l': ('numbers of torch.int64', frozenset((torch.int64,))),
    'r': ('real numbers', _FLOATS | _INTEGERS),
    'a': ('numbers', None),
}


class _Takes:
    """Checks what an op is given: devices, dimensions and number types of its tensors.

    Args:
        arguments: the op's schema; tensors come first.
        kinds: for each tensor a letter of :data:`_KINDS` and its number of dimensions.
    """

    def __init__(self, arguments: str, kinds: str) -> None:
        names = [part.split()[1] for part in arguments.split(', ') if part.startswith('Tensor ')]
        self.names, self.count = names, len(names)
        self.expected = [
            (name, *_KINDS[kind[0]], int(kind[1:]))
            for name, kind in zip(names, kinds.split(), strict=True)
        ]

    def __call__(self, tensors: Sequence[Tensor]) -> None:
        # Asking whether a tensor is on the CPU is faster than comparing devices.
        device = None if tensors[0].is_cpu else tensors[0].device
        for tensor, (_, _, types, ndim) in zip(tensors, self.expected, strict=True):
            if not (
                tensor.ndim == ndim
                and (types is None or tensor.dtype in types)
                and (tensor.is_cpu if device is None else tensor.device == device)
            ):
                self._name_what_does_not_fit(tensors)

    def _name_what_does_not_fit(self, tensors: Sequence[Tensor]) -> None:
        device = tensors[0].device
        for tensor, (name, what, types, ndim) in zip(tensors, self.expected, strict=True):
            if tensor.device != device:
                raise ValueError(
                    f'{name} must be on {device} as {self.expected[0][0]} is, found {tensor.device}'
                )
            if tensor.ndim != ndim:
                raise ValueError(
                    f'{name} must have {ndim} dimensions, found shape {tuple(tensor.shape)}'
                )
            if types is not None and tensor.dtype not in types:
                raise ValueError(f'{name} must hold {what}, found {tensor.dtype}')


def define(
    name: str,
    arguments: str,
    results: str,
    allocate: Callable[..., Any],
    backends: Mapping[str, Callable[..., None]],
    flops: Callable[..., int] | None = None,
    *,
    takes: str,
    check: Callable[..., None] | None = None,
    contents: Callable[..., None] | None = None,
) -> CustomOpDef:
    """The op ``mmseg_arta::name``; its last argument is the name of a back end.

    Args:
        name: of the op.
        arguments: their schema; tensors come first, then all else.
        results: their schema.
        allocate: from the arguments to empty results, whose shapes must depend on no data.
        backends: for each one the function that fills the results. It is given them and the
            arguments, all tensors contiguous.
        flops: from the arguments, shapes in place of tensors, to floating-point operations.
        takes: what each tensor holds and its number of dimensions, ``'f3 l1'``: see
            :data:`_KINDS`.
        check: raises an error that names the argument if sizes or numbers on the host are not
            what they may be. Called whenever the op runs, on ``meta`` too.
        contents: the same for what the tensors hold, on the CPU. Called where a back end has found
            that something is wrong, and before those run that do not look.
    """
    fit = _Takes(arguments, takes)
    tensors = fit.count

    def run(*inputs: Any) -> Any:
        *numbers, backend = inputs[tensors:]
        fit(inputs[:tensors])
        if backend not in backends:
            raise ValueError(f'backend must be one of {", ".join(backends)}, found {backend!r}')
        if check is not None:
            check(*inputs[:-1])
        given = (*(tensor.contiguous() for tensor in inputs[:tensors]), *numbers)
        filled = allocate(*given)
        if not any(result.numel() for result in _each(filled)):
            return filled
        if contents is not None and backend != 'cpu' and readable(given[0]):
            contents(*given)
        try:
            backends[backend](filled, *given)
        except BadIndex:
            if contents is not None:
                contents(*given)
            raise
        except BadSize as error:
            found = (f'{n} {tuple(t.shape)}' for n, t in zip(fit.names, given, strict=False))
            raise ValueError(
                f'{name} cannot count the sizes of {", ".join(found)} with the numbers {numbers}'
            ) from error
        return filled

    def fake(*inputs: Any) -> Any:
        fit(inputs[:tensors])
        # Plain tensors on `meta` have sizes that are numbers, others may have symbols.
        if check is not None and type(inputs[0]) is Tensor:
            check(*inputs[:-1])
        return allocate(*inputs[:-1])

    schema = f'({arguments}, str backend) -> {results}'
    op = torch.library.custom_op(f'mmseg_arta::{name}', run, mutates_args=(), schema=schema)
    op.register_fake(fake)
    if flops is not None:
        register_flop_formula(getattr(torch.ops.mmseg_arta, name))(
            lambda *shapes, out_shape=None, **_: flops(*shapes[:-1])
        )
    return op


def differentiate(
    forward: CustomOpDef,
    backward: CustomOpDef,
    tensors: int,
    wanted: Sequence[int],
    keep: bool = False,
) -> None:
    """Gives an op a gradient.

    Args:
        forward: the op.
        backward: takes the gradient of the op's first result and the op's arguments, and returns
            gradients of some of these.
        tensors: how many of the arguments are tensors.
        wanted: places of the arguments whose gradients ``backward`` returns.
        keep: whether ``backward`` takes the op's results too, before the arguments; those beyond
            the first have no gradient.
    """

    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.numbers = inputs[tensors:]
        if keep:
            ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*(output if keep else ()), *inputs[:tensors])

    def gradients(ctx: Any, grad_out: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        found = backward(grad_out, *ctx.saved_tensors, *ctx.numbers)
        grads: list[Tensor | None] = [None] * (tensors + len(ctx.numbers))
        for place, grad in zip(wanted, found, strict=True):
            grads[place] = grad
        return tuple(grads)

    forward.register_autograd(gradients, setup_context=setup_context)


def _each(results: Any) -> tuple[Tensor, ...]:
    return results if isinstance(results, tuple) else (results,)


def empty_like(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Contiguous memory for a gradient of each tensor."""
    return tuple(tensor.new_empty(tensor.shape) for tensor in tensors)
