"""From the layouts of published checkpoints to ours.

Every module here is imported, so that the functions it marks with :func:`converts` are found.
"""

import importlib
import pkgutil

from .converters import (
    CheckpointError,
    check_weights,
    convert_state_dict,
    read_state_dict,
    write_checkpoint,
)
from .rules import CONVERTERS, converts, rename_keys

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f'{__name__}.{_module.name}')

__all__ = [
    'CONVERTERS',
    'CheckpointError',
    'check_weights',
    'convert_state_dict',
    'converts',
    'read_state_dict',
    'rename_keys',
    'write_checkpoint',
]
