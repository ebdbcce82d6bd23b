"""Runs MMSegmentation's and MMPretrain's own command-line tools with this package registered."""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

import mmseg
import torch
from mmengine.config import Config
from mmengine.device import get_device

from .engine import CPUDistributedDataParallel

_DISTRIBUTIONS = {'mmpretrain': 'onedl-mmpretrain', 'mmseg': 'onedl-mmsegmentation'}


def codebase_of(arguments: Sequence[str]) -> Path | None:
    """Folder of ``mmpretrain``, if the command line names one of its configs.

    Args:
        arguments: the command line, in which a config file is looked for.

    Returns:
        None for a config of MMSegmentation, and if there is no config.

    Raises:
        ImportError: if the config is for MMPretrain, and that or torchvision is missing or broken.
    """
    config = next((a for a in arguments if a.endswith('.py') and Path(a).is_file()), None)
    if config is None:
        return None
    content = Config.fromfile(config, import_custom_modules=False)
    if content.get('default_scope') != 'mmpretrain':
        return None
    # Says what is missing; only then can MMPretrain be imported.
    importlib.import_module('mmseg_arta.pretrain')
    return Path(str(importlib.import_module('mmpretrain').__file__)).parent


def stock_tool(name: str, package: Path | None = None) -> Path:
    """Path of a codebase's tool ``name`` (such as ``'train.py'``).

    Args:
        name: file name below MMSegmentation's ``tools`` folder.
        package: folder of the codebase's package; that of the imported ``mmseg`` by default.

    Raises:
        FileNotFoundError: neither the installed package nor a checkout around it has the tool.
    """
    package = package or Path(mmseg.__file__).parent
    # An installed codebase carries its tools in .mim; in a checkout they lie beside it.
    places = [package / '.mim' / 'tools' / name, package.parent / 'tools' / name]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"{package.name}'s tools/{name} was not found. Looked for: "
        + ', '.join(str(place) for place in places)
        + '. Reinstall it: pip install --force-reinstall --no-deps '
        + f'"{_DISTRIBUTIONS[package.name]}"'
    )


def join_processes_on_cpu(arguments: Sequence[str]) -> list[str]:
    """Let ``--launcher pytorch`` start several processes on a machine without an accelerator.

    MMEngine sets a CUDA device first, which fails there, unless the processes are joined already.
    The model's wrapper has to be one that wants no GPU.

    Args:
        arguments: the command line, in which ``--launcher`` is looked for.

    Returns:
        what to add to the command line: the wrapper, unless another one is named there.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('--launcher')
    launcher = parser.parse_known_args(arguments)[0].launcher
    if launcher != 'pytorch' or 'RANK' not in os.environ or get_device() != 'cpu':
        return []
    torch.distributed.init_process_group('gloo')
    if any(argument.startswith('model_wrapper_cfg.type=') for argument in arguments):
        return []
    return ['--cfg-options', f'model_wrapper_cfg.type={CPUDistributedDataParallel.__name__}']


def run_stock_tool(name: str) -> None:
    """Run a codebase's tool ``name`` as the main program; all options go to it.

    The codebase is MMPretrain for its configs, and MMSegmentation for all else. Ends the process
    with a message if the tool, or what MMPretrain needs, is missing.
    """
    try:
        package = codebase_of(sys.argv[1:])
        script = stock_tool(name) if package is None else stock_tool(name, package)
    except (FileNotFoundError, ImportError) as error:
        sys.exit(str(error))
    sys.argv += join_processes_on_cpu(sys.argv[1:])
    runpy.run_path(str(script), run_name='__main__')
    leave_processes()


def leave_processes() -> None:
    """End the group of processes, and the threads that serve it, if there is one.

    A thread of gloo that still holds a tensor when the interpreter shuts down aborts the process
    (SIGABRT) after all its work is done.
    """
    if torch.distributed.is_initialized():
        # Models and optimisers, which hold the group, lie in cycles.
        gc.collect()
        torch.distributed.destroy_process_group()
