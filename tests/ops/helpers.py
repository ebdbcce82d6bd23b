"""What the tests of kernels share: poisoned runs and comparisons with the reference."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from mmseg_arta.ops.library import cpu

#: Number types of the kernels for GPUs, and how much results may differ, relative to the largest.
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
TOLERANCE = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 4e-2}

#: Tests of Triton's kernels, which `test_triton.py` runs in a process of their own.
interpreted = pytest.mark.skipif(
    os.environ.get('TRITON_INTERPRET') != '1', reason='run by test_triton.py'
)


@contextmanager
def poisoned(deterministic: bool = True) -> Iterator[None]:
    """New memory is filled with NaN, so that what a kernel does not write shows.

    PyTorch does so where algorithms are to be deterministic.
    """
    was = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(deterministic)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was)


def run(
    function: Callable[..., Tensor],
    tensors: Sequence[Tensor],
    grad_out: Tensor,
    deterministic: bool = True,
) -> list[Tensor]:
    """Output and gradients of a function, in poisoned memory if deterministic."""
    tensors = [t.detach().requires_grad_() for t in tensors]
    with poisoned(deterministic):
        out = function(*tensors)
        grads = torch.autograd.grad(out, tensors, grad_out.to(out.dtype))
    return [out.detach(), *grads]


def compare(
    found: Callable[..., Tensor],
    expected: Callable[..., Tensor],
    tensors: Sequence[Tensor],
    names: Sequence[str],
    scales: dict[str, float] | None = None,
) -> None:
    """C++ in float32 against the reference in float64, relative to each tensor's largest.

    ``scales`` are the sizes of sums that nearly cancel, to be used instead of the largest.
    """
    double = [t.double() for t in tensors]
    torch.manual_seed(0)
    grad_out = torch.randn(expected(*double).shape)
    for name, mine, truth in zip(
        ('out', *names), run(found, tensors, grad_out), run(expected, double, grad_out), strict=True
    ):
        assert mine.dtype == torch.float32 and mine.shape == truth.shape
        largest = float(truth.abs().max()) if truth.numel() else 0.0
        largest = max(largest, (scales or {}).get(name, 0.0), 1e-2)
        torch.testing.assert_close(
            mine.double(),
            truth,
            rtol=0,
            atol=1e-5 * largest,
            msg=lambda message, name=name: f'{name}: {message}',
        )


def with_threads(counts: Sequence[int], function: Callable[[], list[Tensor]]) -> list[list[Tensor]]:
    """What a function returns when PyTorch uses each of the given numbers of threads."""
    before = torch.get_num_threads()
    results = []
    try:
        for count in counts:
            torch.set_num_threads(count)
            results.append(function())
    finally:
        torch.set_num_threads(before)
    return results


def strided(tensor: Tensor) -> Tensor:
    """The same numbers, every other one in memory."""
    return torch.stack((tensor, tensor), -1)[..., 0]


@contextmanager
def instruction_set(name: str) -> Iterator[None]:
    """Kernels use the given instruction set; skips the test on machines without it."""
    if not cpu.use(name):
        pytest.skip(f'this machine does not have {name}')
    try:
        yield
    finally:
        cpu.use('')


def assert_close(
    found: Sequence[Tensor],
    expected: Sequence[Tensor],
    names: Sequence[str],
    dtype: torch.dtype,
    scales: dict[str, float] | None = None,
) -> None:
    """Named results of kernels in a number type against those in double precision."""
    for name, mine, truth in zip(names, found, expected, strict=True):
        assert mine.shape == truth.shape
        largest = float(truth.abs().max()) if truth.numel() else 0.0
        largest = max(largest, (scales or {}).get(name, 0.0), 1e-2)
        torch.testing.assert_close(
            mine.double(),
            truth.double(),
            rtol=0,
            atol=TOLERANCE[dtype] * largest,
            msg=lambda message, name=name: f'{name}: {message}',
        )
