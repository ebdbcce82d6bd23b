"""Loads a compiled library and declares its functions."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import ModuleType


def load(
    path: Path, kernels: str, name: str, interface: ModuleType
) -> tuple[ctypes.CDLL | None, str]:
    """The library at ``path`` and '', or None and the reason why it cannot be used.

    Args:
        path: where it lies, built or not.
        kernels: what messages call its kernels.
        name: of the back end.
        interface: its ``FUNCTIONS``, each one's result type and argument types, and ``VERSION``.
    """
    build = f'python -m mmseg_arta.ops.{name}.build'
    if not path.is_file():
        return None, f'the {kernels} kernels are not built (no {path}); in a checkout: {build}'
    try:
        library = ctypes.CDLL(os.fspath(path))
        for function_name, (result, arguments) in interface.FUNCTIONS.items():
            function = getattr(library, function_name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        return None, f'{path} cannot be loaded: {error}; build it again with {build}'
    found = getattr(library, f'arta_{name}_version')()
    if found != interface.VERSION:
        return None, (
            f'{path} has interface version {found}, this package needs {interface.VERSION}: '
            f'build it again with {build}'
        )
    return library, ''


def usable(loaded: tuple[ctypes.CDLL | None, str]) -> ctypes.CDLL:
    """The library that :func:`load` returned.

    Raises:
        RuntimeError: if it cannot be used.
    """
    library, reason = loaded
    if library is None:
        raise RuntimeError(f'mmseg_arta: {reason}')
    return library
