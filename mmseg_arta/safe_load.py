"""Reading checkpoint files without running what is in them."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

# The variable that makes PyTorch's safe reader the only one.
_FORCED = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'


class CheckpointError(ValueError):
    """A checkpoint that cannot be used, with a message for the person who asked."""


def _statistic(owner: object, name: str) -> Any:
    """In the place of ``getattr``: log histories name their statistics by it."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise pickle.UnpicklingError(f'attribute {name!r} of {owner!r} is not a log statistic')
    return getattr(HistoryBuffer, name)


# What makes NumPy's arrays and numbers.
_MAKERS: list[Any] = [value.__reduce__()[0] for value in (np.zeros(0), np.float64(0))]

#: What MMEngine's own checkpoints hold besides tensors and plain values: log histories and
#: NumPy's numbers.
_PLAIN: list[Any] = [
    HistoryBuffer,
    (_statistic, 'builtins.getattr'),
    np.ndarray,
    np.dtype,
    # NumPy 2 has moved them; files name them as the release did that wrote them.
    *(
        (maker, f'numpy.{module}.multiarray.{maker.__name__}')
        for maker in _MAKERS
        for module in ('core', '_core')
    ),
    *{type(np.dtype(kind)) for kind in ('bool', 'u1', 'i4', 'i8', 'f4', 'f8')},
]


def allow_own_checkpoints() -> None:
    """Let PyTorch's safe reader read MMEngine's checkpoints, wherever it is asked to.

    Stock commands ask it if ``TORCH_FORCE_WEIGHTS_ONLY_LOAD`` is set.
    """
    torch.serialization.add_safe_globals(_PLAIN)


def load_safely(path: str | Path, mapped: bool = False) -> Any:
    """The content of a file written by ``torch.save``, on the CPU.

    Tensors, plain values, and the log histories of MMEngine's checkpoints are read
    (``weights_only``); a file with anything else, which may run code when it is read, is refused.

    Args:
        path: of the file.
        mapped: leave the numbers on the disk until they are used, where the format allows it.

    Raises:
        CheckpointError: if there is no such file, or something else in it.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f'{path}: no such file')
    with _refusing(str(path)), torch.serialization.safe_globals(_PLAIN):
        # The format before PyTorch 1.6 is no archive, and cannot be mapped.
        mapped = mapped and zipfile.is_zipfile(path)
        return torch.load(path, map_location='cpu', weights_only=True, mmap=mapped)


def load_from_anywhere(name: str, mapped: bool = False) -> Any:
    """As :func:`load_safely`; also what MMEngine finds elsewhere, such as ``https://``.

    Raises:
        CheckpointError: if it cannot be read, or there is something else in it.
    """
    if '://' not in name:
        return load_safely(name, mapped)
    # MMEngine's loaders do not let themselves be told how to read.
    before = os.environ.get(_FORCED)
    os.environ[_FORCED] = '1'
    try:
        with _refusing(name), torch.serialization.safe_globals(_PLAIN):
            return CheckpointLoader.load_checkpoint(name, map_location='cpu')
    finally:
        if before is None:
            del os.environ[_FORCED]
        else:
            os.environ[_FORCED] = before


def weights_of(content: Any) -> Mapping[str, Any]:
    """The weights by key in a checkpoint that has been read, in a ``state_dict`` or not.

    Raises:
        ValueError: if there are none.
    """
    weights = content.get('state_dict', content) if isinstance(content, Mapping) else content
    if not isinstance(weights, Mapping):
        raise ValueError(f'expected weights by key, found {type(weights).__name__}')
    return weights


def weights_for_runner(content: Any) -> OrderedDict[str, Any]:
    """The weights in a checkpoint by the keys under which MMEngine's ``Runner`` loads them.

    Raises:
        ValueError: if there are none.
    """
    weights = weights_of(content)
    # Checkpoints of wrapped models name the wrapper's attribute first.
    found: Any = OrderedDict(
        (re.sub(r'^module\.', '', key), value) for key, value in weights.items()
    )
    found._metadata = getattr(weights, '_metadata', {})
    return found


@contextmanager
def _refusing(name: str) -> Generator[None]:
    """Errors of the reader become one line about the file."""
    try:
        yield
    except pickle.UnpicklingError as error:
        # PyTorch puts what it stumbled over behind a paragraph of advice.
        named = re.search(r'GLOBAL (\S+)', str(error))
        what = str(error).rpartition('WeightsUnpickler error:')[2].strip()
        reason = named[1] if named else what.partition('\n')[0].partition('. ')[0]
        raise CheckpointError(
            f'{name}: holds more than tensors and plain values, or is no checkpoint; save its '
            f'state dict alone first ({reason})'
        ) from error
    except OSError as error:
        raise CheckpointError(f'{name}: cannot be read ({error})') from error
    # Bytes that are no pickle make the reader stumble in any way there is.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f'{name}: is no PyTorch checkpoint ({reason})') from error
