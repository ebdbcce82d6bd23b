"""The Triton kernels compiled for a GPU, without one: the interpreter lets more pass."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from tests.ops.inputs import attention_inputs, deform_call, deform_inputs, merge_call, merge_inputs
from tests.ops.kernels import Kernels

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec('triton') is None, reason='needs Triton (requirements/ci.txt)'
    ),
    # The interpreter replaces the compiler, for all of a process.
    pytest.mark.skipif(os.environ.get('TRITON_INTERPRET') == '1', reason='needs the compiler'),
]

TYPES = {
    torch.float32: 'fp32',
    torch.bfloat16: 'bf16',
    torch.float16: 'fp16',
    torch.int32: 'i32',
    torch.int64: 'i64',
}


@dataclass(frozen=True)
class Launch:
    """A kernel, by name what it was called with, and how many warps it has."""

    kernel: Any
    arguments: dict[str, Any]
    warps: int

    def compiled(self, capability: int) -> Any:
        """The kernel for that compute capability, its arguments typed as the launcher does it."""
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource, compile

        signature, constants = {}, {}
        for index, parameter in enumerate(self.kernel.params):
            value = self.arguments[parameter.name]
            # The launcher makes a constant of every 1.
            if parameter.is_constexpr or (type(value) is int and value == 1):
                signature[parameter.name] = 'constexpr'
                constants[(index,)] = value
            elif isinstance(value, torch.Tensor):
                signature[parameter.name] = f'*{TYPES[value.dtype]}'
            else:
                signature[parameter.name] = 'i32' if isinstance(value, int) else 'fp32'
        source = ASTSource(fn=self.kernel, signature=signature, constexprs=constants)
        target = GPUTarget('cuda', capability, 32)
        return compile(source, target=target, options={'num_warps': self.warps})


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[Launch]:
    """What kernels are started with; none runs."""
    from triton.runtime.autotuner import Autotuner
    from triton.runtime.jit import JITFunction

    found: list[Launch] = []

    def start(kernel: JITFunction, *arguments: Any, grid: Any, warmup: bool, **named: Any) -> None:
        by_name = {**dict(zip(kernel.arg_names, arguments, strict=False)), **named}
        if 'pair_rows' in by_name:
            # Rows that the next kernel follows.
            by_name['pair_rows'].fill_(-1)
        found.append(Launch(kernel, by_name, 4))

    def tune(tuner: Autotuner, *arguments: Any, grid: Any, warmup: bool, **named: Any) -> None:
        by_name = {**dict(zip(tuner.fn.arg_names, arguments, strict=False)), **named}
        for config in tuner.configs:
            found.append(Launch(tuner.fn, {**by_name, **config.kwargs}, config.num_warps))

    monkeypatch.setattr(JITFunction, 'run', start)
    monkeypatch.setattr(Autotuner, 'run', tune)
    return found


def attend(dtype: torch.dtype, heads: int, dim: int) -> None:
    (q, kv, *others), *places = attention_inputs((30, 7), heads, dim)
    leaves = [q.to(dtype), kv.to(dtype), *others]
    for leaf in leaves:
        leaf.requires_grad_()
    Kernels('triton').cluster_attention(*leaves, *places).sum().backward()


def deform(dtype: torch.dtype, heads: int, dim: int) -> None:
    (value, *others), places = deform_inputs(20, 30, 2, heads, dim, 3, 4, 4, 3.0)
    leaves = [value.to(dtype), *others]
    for leaf in leaves:
        leaf.requires_grad_()
    deform_call(Kernels('triton'), places)(*leaves).sum().backward()


def merge(dtype: torch.dtype, sets: int, channels: int) -> None:
    (feats, weights), rows = merge_inputs(20, 30, 8, sets, channels)
    leaves = [feats.to(dtype), weights.to(dtype)]
    for leaf in leaves:
        leaf.requires_grad_()
    merge_call(Kernels('triton'), rows)(*leaves).sum().backward()


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=['fp32', 'bf16'])
@pytest.mark.parametrize(
    ('call', 'sizes', 'kernels'),
    [
        (attend, (2, 32), 3),
        (attend, (1, 5), 3),
        (deform, (2, 32), 3),
        (merge, (4, 64), 3),
        (merge, (1, 20), 3),
    ],
)
def test_kernels_compile_for_a_gpu(
    call: Callable[..., None],
    sizes: tuple[int, int],
    kernels: int,
    dtype: torch.dtype,
    launches: list[Launch],
) -> None:
    call(dtype, *sizes)
    each = {launch.kernel.__name__: launch for launch in launches}
    assert len(each) == kernels
    # Half types change what is loaded and stored alone; one head, what is a constant.
    every = dtype == torch.float32 and sizes[0] > 1
    for launch in launches if every else each.values():
        compiled = launch.compiled(90)
        assert compiled.asm['cubin']
        # Bytes of shared memory that a block can have on compute capability 9.0.
        assert compiled.metadata.shared <= 227 * 1024
