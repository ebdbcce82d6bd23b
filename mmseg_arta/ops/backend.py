"""Which implementation of an op runs: one choice for the whole process.

``MMSEG_ARTA_OPS`` forces a back end; without it the best one that is available for
the device and the number type is taken. An op that the chosen back end does not have
runs on the reference.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

from .cpu import library as cpu_library

#: Environment variable that forces a back end.
ENV = 'MMSEG_ARTA_OPS'

#: Every op, and the back ends other than the reference that have it, best first.
OPS: dict[str, tuple[str, ...]] = {
    'balanced_clusters': (),
    'nearest_clusters': ('cpu',),
    'cluster_attention': ('cpu',),
    'gather_patches': (),
    'nearest_tokens': (),
    'point_deform_attention': (),
    'neighborhood_merge': (),
    'finest_token_map': (),
    'boundary_targets': (),
}

_DEVICES = {'cpu': 'cpu'}


def available_backends() -> dict[str, str]:
    """Every back end's name, with '' if it can be used or the reason why it cannot."""
    return {'reference': '', 'cpu': cpu_library.load(cpu_library.PATH)[1]}


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


def explain(op: str, device: str, dtype: torch.dtype) -> tuple[str, dict[str, str]]:
    """The back end that runs ``op``, and for each other one why it does not.

    Args:
        op: a name in :data:`OPS`.
        device: the tensors' device type, such as ``'cpu'``.
        dtype: the tensors' number type.

    Raises:
        RuntimeError: if ``MMSEG_ARTA_OPS`` forces a back end that cannot be used here.
    """
    forced = forced_backend()
    chosen, why = 'reference', {}
    for name, reason in available_backends().items():
        if name == 'reference':
            continue
        if forced == name and device != _DEVICES[name]:
            raise RuntimeError(
                f'{ENV}={name!r}: this back end works on {_DEVICES[name]} tensors, '
                f'{op} was given {device} tensors'
            )
        if name not in OPS[op]:
            why[name] = 'does not have this op'
        elif forced is not None and forced != name:
            why[name] = f'{ENV}={forced}'
        elif device != _DEVICES[name]:
            why[name] = f'for {_DEVICES[name]} tensors'
        elif reason:
            why[name] = reason
        elif dtype == torch.float64 and forced is None:
            # Who computes in double precision checks something: give them the definition.
            why[name] = f'float64 runs on the reference unless {ENV}={name}'
        elif chosen == 'reference':
            chosen = name
    if chosen != 'reference':
        why['reference'] = f'{chosen} is faster'
    return chosen, why


@torch.compiler.assume_constant_result
def _chosen(op: str, device: str, dtype: torch.dtype) -> str:
    return explain(op, device, dtype)[0]


def chosen_backend(op: str, tensor: Tensor) -> str:
    """The back end that runs ``op`` on tensors like this one.

    Raises:
        RuntimeError: if ``MMSEG_ARTA_OPS`` forces a back end that cannot be used here.
    """
    return _chosen(op, tensor.device.type, tensor.dtype)


def uses_reference(op: str, tensor: Tensor) -> bool:
    """Whether ``op`` runs on the reference, so that what only it needs must be prepared."""
    return chosen_backend(op, tensor) == 'reference'
