"""Defines an op with PyTorch, whatever back ends start its kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import CustomOpDef
from torch.utils.flop_counter import register_flop_formula


def define(
    name: str,
    arguments: str,
    results: str,
    allocate: Callable[..., Any],
    backends: Mapping[str, Callable[..., None]],
    flops: Callable[..., int] | None = None,
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
    """

    tensors = arguments.count('Tensor ')

    def run(*inputs: Any) -> Any:
        *numbers, backend = inputs[tensors:]
        given = (*(tensor.contiguous() for tensor in inputs[:tensors]), *numbers)
        filled = allocate(*given)
        backends[backend](filled, *given)
        return filled

    schema = f'({arguments}, str backend) -> {results}'
    op = torch.library.custom_op(f'mmseg_arta::{name}', run, mutates_args=(), schema=schema)
    op.register_fake(lambda *inputs: allocate(*inputs[:-1]))
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


def empty_like(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Contiguous memory for a gradient of each tensor."""
    return tuple(tensor.new_empty(tensor.shape) for tensor in tensors)
