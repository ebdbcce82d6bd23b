"""What MMEngine does anew for every config and run, and tests do for the same ones."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import mmengine.runner.runner as engine
from mmengine.config import Config
from yapf.yapflib import yapf_api

FOLDER = Path(__file__).resolve().parents[1] / 'configs'


def keep_bundled_configs() -> None:
    """Let ``Config.fromfile`` read a bundled file once; what it returns is the caller's own."""
    read = Config.fromfile
    kept: dict[Path, Config] = {}

    def fromfile(filename: str | Path, *args: Any, **kwargs: Any) -> Config:
        path = Path(filename).resolve()
        if args or kwargs or not path.is_relative_to(FOLDER):
            return read(filename, *args, **kwargs)
        if path not in kept:
            kept[path] = read(filename)
        return copy.deepcopy(kept[path])

    Config.fromfile = staticmethod(fromfile)


def keep_formatted_text() -> None:
    """Let YAPF format a text once: a run has its config formatted at every checkpoint, and more."""
    format_code = yapf_api.FormatCode
    kept: dict[str, Any] = {}

    def format_once(unformatted_source: str, **options: Any) -> Any:
        key = repr((unformatted_source, sorted(options.items())))
        if key not in kept:
            kept[key] = format_code(unformatted_source, **options)
        return kept[key]

    yapf_api.FormatCode = format_once


def keep_environment() -> None:
    """Let a run's log ask compilers for their versions once."""
    engine.collect_env = functools.cache(engine.collect_env)
