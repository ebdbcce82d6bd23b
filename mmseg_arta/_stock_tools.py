"""Runs MMSegmentation's own command-line tools with this package registered."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

import mmseg
import torch
from mmengine.device import get_device


def stock_tool(name: str, package: Path | None = None) -> Path:
    """Path of MMSegmentation's tool ``name`` (such as ``'train.py'``).

    Args:
        name: file name below MMSegmentation's ``tools`` folder.
        package: folder of the ``mmseg`` package; the imported one by default.

    Raises:
        FileNotFoundError: neither the installed package nor a checkout around it has the tool.
    """
    package = package or Path(mmseg.__file__).parent
    # An installed MMSegmentation carries its tools in .mim; in a checkout they lie beside it.
    places = [package / '.mim' / 'tools' / name, package.parent / 'tools' / name]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"MMSegmentation's tools/{name} was not found. Looked for: "
        + ', '.join(str(place) for place in places)
        + '. Reinstall it: pip install --force-reinstall --no-deps "onedl-mmsegmentation"'
    )


def join_processes_on_cpu(arguments: Sequence[str]) -> None:
    """Let ``--launcher pytorch`` start several processes on a machine without an accelerator.

    MMEngine sets a CUDA device first, which fails there, unless the processes are joined already.
    The model's wrapper has to be told that it gets no GPU: ``--cfg-options
    model_wrapper_cfg.type=MMDistributedDataParallel model_wrapper_cfg.device_ids=None``.

    Args:
        arguments: the command line, in which ``--launcher`` is looked for.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('--launcher')
    launcher = parser.parse_known_args(arguments)[0].launcher
    if launcher == 'pytorch' and 'RANK' in os.environ and get_device() == 'cpu':
        torch.distributed.init_process_group('gloo')


def run_stock_tool(name: str) -> None:
    """Run MMSegmentation's tool ``name`` as the main program; all options go to it.

    Ends the process with a message if the tool is missing.
    """
    try:
        script = stock_tool(name)
    except FileNotFoundError as error:
        sys.exit(str(error))
    join_processes_on_cpu(sys.argv[1:])
    runpy.run_path(str(script), run_name='__main__')
