"""Reading a config takes a quarter of a second, and many tests read all of them: once is enough."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from mmengine.config import Config

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
