"""What the tests of the C++ kernels share: poisoned runs and comparisons with the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from mmseg_arta.ops.cpu import library


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
    if library.library().arta_cpu_use(name.encode()):
        pytest.skip(f'this machine does not have {name}')
    try:
        yield
    finally:
        library.library().arta_cpu_use(b'')
