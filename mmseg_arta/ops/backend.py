"""Which implementation of an op runs: one choice for the whole process.

``MMSEG_ARTA_OPS`` forces a back end; without it the best one that is available for
the device and the number type is taken. An op that the chosen back end does not have
runs on the reference: plain PyTorch, which is the op's definition or, for searches, finds what
the definition does.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor

from . import library, triton_backend

#: Environment variable that forces a back end.
ENV = 'MMSEG_ARTA_OPS'

#: Every op, and the back ends other than the reference that have it, best first; each op's
#: module registers it.
OPS: dict[str, tuple[str, ...]] = {}

# Back ends other than the reference, best first, and the type of the devices they work on.
_DEVICES = {'cpu': 'cpu', 'cuda': 'cuda', 'triton': 'cuda'}


def register_op(name: str, backends: Iterable[str] = ()) -> None:
    """Enters an op into :data:`OPS`.

    Args:
        name: of its public function.
        backends: that have it; the reference, which is plain PyTorch, always does.
    """
    given = set(backends)
    OPS[name] = tuple(backend for backend in _DEVICES if backend in given)


def device_of(backend: str) -> str:
    """Type of the devices that a back end other than the reference works on."""
    return _DEVICES[backend]


def available_backends() -> dict[str, str]:
    """Every back end's name, with '' if it can be used or the reason why it cannot."""
    return {
        'reference': '',
        'cpu': library.cpu.unusable(),
        'cuda': library.cuda.unusable(),
        'triton': triton_backend.unusable(),
    }


def forced_backend() -> str | None:
    """The back end named by ``MMSEG_ARTA_OPS``, or None.

    Raises:
        RuntimeError: if the variable names no back end, or one that cannot be used.
    """
    name = os.environ.get(ENV, '').strip()
    if not name:
        return None
    reasons = available_backends()
    if name not in reasons:
        raise RuntimeError(f'{ENV}={name!r}: expected one of {", ".join(reasons)}')
    if reasons[name]:
        raise RuntimeError(f'{ENV}={name!r}: this back end cannot be used: {reasons[name]}')
    return name


def explain(
    op: str, device: str, dtype: torch.dtype, unsupported: Mapping[str, str] | None = None
) -> tuple[str, dict[str, str]]:
    """The back end that runs ``op``, and for each other one why it does not.

    Args:
        op: a name in :data:`OPS`.
        device: the tensors' device type, such as ``'cpu'``.
        dtype: the tensors' number type.
        unsupported: back ends that cannot take the call at hand, and why.

    Raises:
        RuntimeError: if ``MMSEG_ARTA_OPS`` forces a back end that cannot be used here.
    """
    forced = forced_backend()
    chosen, why = 'reference', {}
    reasons = available_backends()
    for name in _DEVICES:
        works_on = _devices(name)
        if forced == name and device not in works_on:
            raise RuntimeError(
                f'{ENV}={name!r}: this back end works on {" and ".join(works_on)} tensors, '
                f'{op} was given {device} tensors'
            )
        if name not in OPS[op]:
            why[name] = 'does not have this op'
        elif forced is not None and forced != name:
            why[name] = f'{ENV}={forced}'
        elif device not in works_on:
            why[name] = f'for {" and ".join(works_on)} tensors'
        elif reasons[name]:
            why[name] = reasons[name]
        elif dtype == torch.float64 and name != 'cpu':
            why[name] = 'does not compute in float64'
        elif dtype == torch.float64 and forced is None:
            # Who computes in double precision checks something: give them the definition.
            why[name] = f'float64 runs on the reference unless {ENV}={name}'
        elif name == 'triton' and triton_backend.interpreted() and forced is None:
            why[name] = f"Triton's interpreter is for tests: {ENV}=triton takes it"
        elif unsupported and unsupported.get(name):
            why[name] = unsupported[name]
        elif chosen == 'reference':
            chosen = name
        else:
            why[name] = f'{chosen} is faster'
    if chosen != 'reference':
        why['reference'] = f'{chosen} is faster'
    return chosen, why


def _devices(name: str) -> tuple[str, ...]:
    # Triton's interpreter works on the CPU's memory.
    interpreted = name == 'triton' and triton_backend.interpreted()
    return ('cpu', 'cuda') if interpreted else (_DEVICES[name],)


@torch.compiler.assume_constant_result
def _chosen(
    op: str, device: str, dtype: torch.dtype, unsupported: tuple[tuple[str, str], ...]
) -> str:
    # All that a choice depends on and that may change while the process runs.
    paths = library.cpu.path, library.cuda.path
    state = (os.environ.get(ENV), triton_backend.interpreted(), *paths)
    return _remembered(op, device, dtype, unsupported, state)


@lru_cache(maxsize=256)
def _remembered(
    op: str,
    device: str,
    dtype: torch.dtype,
    unsupported: tuple[tuple[str, str], ...],
    state: tuple[object, ...],
) -> str:
    return explain(op, device, dtype, dict(unsupported))[0]


def chosen_backend(op: str, tensor: Tensor, unsupported: tuple[tuple[str, str], ...] = ()) -> str:
    """The back end that runs ``op`` on tensors like this one.

    Args:
        op: a name in :data:`OPS`.
        tensor: one of its arguments.
        unsupported: pairs of a back end that cannot take this call, and why.

    Raises:
        RuntimeError: if ``MMSEG_ARTA_OPS`` forces a back end that cannot be used here.
    """
    return _chosen(op, tensor.device.type, tensor.dtype, unsupported)


@contextmanager
def only_ops_with_kernels_for(device: str) -> Generator[None]:
    """Within this context ops that have no back end for a type of device run on the reference.

    That is how they run there, so it can be studied where there is no such device.
    """
    before = dict(OPS)
    OPS.update({op: () for op, own in before.items() if device not in map(device_of, own)})
    _remembered.cache_clear()
    try:
        yield
    finally:
        OPS.update(before)
        _remembered.cache_clear()


def number_types(backend: str, dtype: torch.dtype) -> tuple[torch.dtype, torch.dtype]:
    """Number types that a back end takes: of features, and of what takes more digits.

    On GPUs half types are read as they are and summed in float32; elsewhere they are converted.
    """
    wide = torch.promote_types(dtype, torch.float32)
    return (dtype if backend in ('cuda', 'triton') else wide), wide


def converted(dtype: torch.dtype, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors in a number type."""
    # Asking first is several times as fast as a conversion that has nothing to do.
    return tuple(tensor if tensor.dtype == dtype else tensor.to(dtype) for tensor in tensors)


def uses_reference(op: str, tensor: Tensor) -> bool:
    """Whether ``op`` runs on the reference, so that what only it needs must be prepared."""
    return chosen_backend(op, tensor) == 'reference'
