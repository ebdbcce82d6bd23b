"""The compiled libraries of the C++ and CUDA back ends: plain C behind ctypes.

Each op declares its own functions and the version of their interface; ``csrc`` states the same
beside the functions. A library that does not fit is not used.
"""

from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Sequence
from ctypes import c_char_p, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import build as building

#: Codes of number types, as ``ArtaType``.
TYPES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3}

#: What functions of the C++ library return when they could not get memory, when a number in an
#: array is not what it may be, for sizes that cannot be, and for any other error.
NO_MEMORY, BAD_INDEX, BAD_SIZE, FAILED = 1, 2, 3, 4

#: What functions of the CUDA library return for sizes they do not have and for an exception, and
#: what they add to the code of a CUDA error.
CUDA_UNSUPPORTED, CUDA_FAILED, CUDA_ERROR = 1, 2, 1000


class BadIndex(IndexError):
    """A kernel found a number in an array that is not what it may be."""


class BadSize(ValueError):
    """Kernels cannot count the sizes that they were given."""


def fields(kind: Any, names: str) -> list[tuple[str, Any]]:
    """Fields of one type, their names separated by blanks."""
    return [(name, kind) for name in names.split()]


class Run(ctypes.Structure):
    """``ArtaRun``: how to run."""

    _fields_ = [*fields(c_int64, 'type threads'), *fields(c_void_p, 'stream')]

    @classmethod
    def on(cls, tensor: Tensor) -> Run:
        """How to run on features like these."""
        return cls(TYPES.get(tensor.dtype, 0), torch.get_num_threads(), stream(tensor))


def stream(tensor: Tensor) -> int | None:
    """The stream that work on a tensor's device goes to, None on the CPU."""
    return torch.cuda.current_stream(tensor.device).cuda_stream if tensor.is_cuda else None


def wide_type(dtype: torch.dtype) -> torch.dtype:
    """The type of what takes more digits than features: float32, or float64 beside float64."""
    return torch.promote_types(dtype, torch.float32)


def host_lengths(values: Sequence[int]) -> ctypes.Array:
    """Lengths on the host as an array of C."""
    return (c_int64 * len(values))(*values)


class Library:
    """The compiled kernels of a back end, loaded when they are first asked for.

    Args:
        name: of the back end.
        language: what messages call its kernels.
        device: type of the devices that tensors must lie on, 'cpu' or 'cuda'.
        types: number types of features that the kernels compute in.
    """

    def __init__(
        self, name: str, language: str, device: str, types: tuple[torch.dtype, ...]
    ) -> None:
        self.name, self.language, self.device, self.types = name, language, device, types
        #: Where the library of this package lies, built or not.
        self.path = Path(__file__).resolve().parent / f'_C_{name}.so'
        self.versions: dict[str, int] = {}
        self.functions: dict[str, tuple[Any, ...]] = {}
        self._loaded: dict[Path, tuple[ctypes.CDLL | None, str]] = {}

    def declare(self, op: str, version: int, **functions: tuple[Any, ...]) -> None:
        """Declares the functions of an op.

        Args:
            op: its name.
            version: of their interface, as ``ARTA_INTERFACE`` of the op in ``csrc``.
            functions: each one's result type and, after it, its argument types.
        """
        self.versions[op] = version
        self.functions |= functions

    def load(self) -> tuple[ctypes.CDLL | None, str]:
        """The library and '', or None and the reason why it cannot be used."""
        if self.path not in self._loaded:
            found = self._loaded[self.path] = self._load()
            if found[1] and self.path.is_file():
                warnings.warn(
                    f'mmseg_arta: {found[1]}. Until then its ops run without it, more slowly.',
                    stacklevel=2,
                )
        return self._loaded[self.path]

    def _load(self) -> tuple[ctypes.CDLL | None, str]:
        build = f'python -m mmseg_arta.ops.build {self.name}'
        if not self.path.is_file():
            return None, (
                f'the {self.language} kernels are not built (no {self.path}); '
                f'in a checkout: {build}'
            )
        damage = building.damage(self.path)
        if damage:
            # A process that maps a file which was cut off dies of it.
            return None, f'{self.path} cannot be loaded: {damage}; build it again with {build}'
        try:
            library = ctypes.CDLL(os.fspath(self.path))
        except OSError as error:
            return None, f'{self.path} cannot be loaded: {error}; build it again with {build}'
        for op, version in self.versions.items():
            found = getattr(library, f'arta_{op}_version', lambda: 'none')()
            if found != version:
                return None, (
                    f'{self.path} has interface version {found} of {op}, this package needs '
                    f'{version}: build it again with {build}'
                )
        try:
            for name, (result, *arguments) in self.functions.items():
                function = getattr(library, name)
                function.restype, function.argtypes = result, arguments
        except AttributeError as error:
            return None, f'{self.path} cannot be used: {error}; build it again with {build}'
        return library, ''

    def unusable(self) -> str:
        """'' if the kernels can be used, or the reason why not."""
        return self.load()[1]

    def loaded(self) -> ctypes.CDLL:
        """The library.

        Raises:
            RuntimeError: if it cannot be used.
        """
        library, reason = self.load()
        if library is None:
            raise RuntimeError(f'mmseg_arta: {reason}')
        return library

    def call(self, name: str, *arguments: object) -> None:
        """Calls a function that returns 0 for success.

        Raises:
            MemoryError: if it could not get memory (C++).
            BadIndex: if a number in an array is not what it may be (C++).
            BadSize: for sizes that cannot be, or that the kernels cannot count (C++).
            ValueError: for sizes that the kernels do not have (CUDA).
            RuntimeError: for any other error.
        """
        code = getattr(self.loaded(), name)(*arguments)
        if code:
            self.fail(name, code)

    def fail(self, name: str, code: int) -> None:
        """Raises what a function's code stands for."""
        raise NotImplementedError

    def address(self, name: str, tensor: Tensor, dtype: torch.dtype, *shape: int) -> int:
        """Address of a dense tensor.

        Raises:
            ValueError: if the tensor is not what the kernel expects.
        """
        if (
            tensor.dtype != dtype
            or tensor.shape != shape
            or tensor.device.type != self.device
            or not tensor.is_contiguous()
        ):
            raise ValueError(
                f'{name}: expected a contiguous {dtype} tensor {shape} on {self.device}, found '
                f'{tensor.dtype} {tuple(tensor.shape)} with strides {tensor.stride()} on '
                f'{tensor.device}'
            )
        return tensor.data_ptr()

    def number_types(self, name: str, tensor: Tensor) -> tuple[torch.dtype, torch.dtype]:
        """The number type of features, and that of what takes more digits.

        Raises:
            ValueError: if kernels do not compute in it.
        """
        if tensor.dtype not in self.types:
            expected = ' or '.join(map(str, self.types))
            raise ValueError(f'{name}: expected {expected}, found {tensor.dtype}')
        return tensor.dtype, wide_type(tensor.dtype)


class CpuLibrary(Library):
    """The C++ kernels."""

    def fail(self, name: str, code: int) -> None:
        if code == BAD_INDEX:
            raise BadIndex(f'mmseg_arta: {name} was given an index out of range')
        if code == NO_MEMORY:
            raise MemoryError(f'mmseg_arta: {name} could not get memory')
        if code == BAD_SIZE:
            raise BadSize(f'mmseg_arta: {name} was given sizes that cannot be')
        raise RuntimeError(f'mmseg_arta: {name} failed')

    def describe(self) -> str:
        """What the library uses on this machine."""
        library = self.loaded()
        threads = 'shares OpenMP threads' if library.arta_cpu_shares_openmp() else 'own threads'
        return f'{library.arta_cpu_instructions().decode()}, {threads}'

    def use(self, instructions: str) -> bool:
        """Makes the kernels use an instruction set: 'base', 'avx2', 'avx512', or '' for the best.

        For tests and measurements.

        Returns:
            whether this machine has it.
        """
        return not self.loaded().arta_cpu_use(instructions.encode())


class CudaLibrary(Library):
    """The CUDA kernels."""

    def unusable(self) -> str:
        reason = super().unusable()
        if reason:
            return reason
        return '' if torch.cuda.is_available() else 'PyTorch finds no CUDA device'

    def fail(self, name: str, code: int) -> None:
        if code == CUDA_UNSUPPORTED:
            raise ValueError(f'mmseg_arta: {name} does not have these sizes on CUDA')
        if code == CUDA_FAILED:
            raise RuntimeError(f'mmseg_arta: {name} failed')
        raise RuntimeError(f'mmseg_arta: {name} failed with CUDA error {code - CUDA_ERROR}')


cpu = CpuLibrary('cpu', 'C++', 'cpu', (torch.float32, torch.float64))
cuda = CudaLibrary('cuda', 'CUDA', 'cuda', (torch.float32, torch.float16, torch.bfloat16))

cpu.declare(
    'machine',
    1,
    arta_cpu_instructions=(c_char_p,),
    arta_cpu_use=(c_int, c_char_p),
    arta_cpu_shares_openmp=(c_int64,),
)
