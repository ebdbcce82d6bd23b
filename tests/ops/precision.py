"""Half types: the error of an op beside that of the reference computed in the same type."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from mmseg_arta.ops import cluster_attention, neighborhood_merge, point_deform_attention
from mmseg_arta.ops.cluster_attention import reference as ref_attention
from mmseg_arta.ops.neighborhood_merge import reference as ref_merge
from mmseg_arta.ops.point_deform_attention import reference as ref_deform
from mmseg_arta.structures import Neighborhood
from tests.ops.helpers import run
from tests.ops.inputs import attention_inputs, deform_inputs, merge_inputs

HALVES = (torch.bfloat16, torch.float16)

Function = Callable[..., Tensor]


def attention(
    sizes: Sequence, seed: int = 0, device: str = 'cpu'
) -> tuple[Function, Function, list[Tensor]]:
    """The op on a device, its reference on the CPU, and inputs on the CPU."""
    tensors, hood, clamp = attention_inputs(*sizes, seed=seed)
    there = moved(hood, device)
    return (
        lambda *t: cluster_attention(*(x.to(device) for x in t), there, clamp).cpu(),
        lambda *t: ref_attention.cluster_attention(*t, hood, clamp),
        tensors,
    )


def moved(hood: Neighborhood, device: str) -> Neighborhood:
    """The same neighbourhood on a device."""
    tensors = {n: t.to(device) for n, t in vars(hood).items() if isinstance(t, Tensor)}
    return replace(hood, **tensors)


def deform(
    sizes: Sequence, seed: int = 0, device: str = 'cpu'
) -> tuple[Function, Function, list[Tensor]]:
    tensors, places = deform_inputs(*sizes, seed)

    def call(function: Function, device: str, *bounds: float) -> Function:
        centers, nearest, batch = (t.to(device) for t in places)

        def on_device(*tensors: Tensor) -> Tensor:
            value, *rest = (t.to(device) for t in tensors)
            return function(value, centers.to(value), nearest, batch, *rest, *bounds).cpu()

        return on_device

    reference = call(ref_deform.point_deform_attention, 'cpu', 0.01, 1e-6)
    return call(point_deform_attention, device), reference, tensors


def merge(
    sizes: Sequence, seed: int = 0, device: str = 'cpu'
) -> tuple[Function, Function, list[Tensor]]:
    tensors, rows = merge_inputs(*sizes, seed)
    there = rows.to(device)
    return (
        lambda feats, weights: neighborhood_merge(
            feats.to(device), there, weights.to(device)
        ).cpu(),
        lambda feats, weights: ref_merge.neighborhood_merge(feats, rows, weights),
        tensors,
    )


#: Each op at sizes small enough to emulate kernels, called with the device.
SMALL = {
    'cluster_attention': partial(attention, ((11, 0, 6), 2, 16, 8, 3, 5.0), 0),
    'point_deform_attention': partial(deform, (20, 9, 2, 2, 8, 2, 2, 4, 1.0), 0),
    'neighborhood_merge': partial(merge, (9, 6, 3, 4, 24), 0),
}


def errors(results: Sequence[Tensor], truth: Sequence[Tensor]) -> list[float]:
    """The largest error of each tensor, infinite where something is not a number."""
    return [
        math.inf if not mine.isfinite().all() else float((mine.double() - right).abs().max())
        for mine, right in zip(results, truth, strict=True)
    ]


def check(op: Function, reference: Function, tensors: Sequence[Tensor], dtype: torch.dtype) -> None:
    """Output and gradients err at most twice as much as plain PyTorch, and a last place."""
    tensors = [tensor.to(dtype) for tensor in tensors]
    double = [tensor.double() for tensor in tensors]
    torch.manual_seed(0)
    grad_out = torch.randn(reference(*double).shape).to(dtype)
    truth = run(reference, double, grad_out)
    plain = errors(run(reference, tensors, grad_out), truth)
    found = run(op, tensors, grad_out)
    assert all(mine.dtype == dtype for mine in found)
    for number, (mine, limit, right) in enumerate(
        zip(errors(found, truth), plain, truth, strict=True)
    ):
        # Otherwise nothing would be compared.
        assert math.isfinite(limit), f'tensor {number}: plain PyTorch has no number'
        place = torch.finfo(dtype).eps * float(right.abs().max())
        assert mine <= 2 * limit + place, f'tensor {number}: {mine}, plain PyTorch {limit}'
