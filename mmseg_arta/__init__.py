"""Segmentation backbones that spend tokens where the classes meet, for MMSegmentation.

Importing this package registers all it has, so a config needs one line::

    custom_imports = dict(imports=['mmseg_arta'])
"""

from __future__ import annotations

import sys

from ._requirements import check as _check_requirements
from .version import __version__

__all__ = ['__version__', 'config_path', 'register']


def register() -> None:
    """Import the subpackages that enter MMSegmentation's registries. Repeating it does nothing.

    It also names what MMEngine's checkpoints hold to PyTorch's safe reader.
    """
    from . import datasets, engine, evaluation, models  # noqa: F401
    from .safe_load import allow_own_checkpoints

    allow_own_checkpoints()


def config_path(name: str) -> str:
    """Path of a bundled config, for configs of one's own to inherit on any machine::

        _base_ = [__import__('mmseg_arta').config_path('arta/NAME')]

    MMEngine evaluates ``_base_`` by itself, before any import of the file, hence ``__import__``.

    Args:
        name: file name of a config of this package, with or without folders and '.py'. Files
            in the working directory are not looked at.

    Raises:
        FileNotFoundError: if there is none; names that are alike stand in the message.
    """
    from .config_files import find_config

    return str(find_config(f'mmseg_arta::{name}'))


# Modules that run as commands without anything registered: the doctor has to run exactly where
# that would fail, and a list of configs needs none of it.
_BARE_COMMANDS = ('mmseg_arta.doctor', 'mmseg_arta.configs')


def _for_bare_command() -> bool:
    """Whether ``python -m`` one of these is what imports this package.

    Python imports a package before it runs a module of it. While Python looks the module up,
    ``sys.argv[0]`` is ``'-m'``.
    """
    return sys.argv[:1] == ['-m'] and any(
        argument.endswith(_BARE_COMMANDS) for argument in sys.orig_argv
    )


if not _for_bare_command():
    _check_requirements()
    register()
