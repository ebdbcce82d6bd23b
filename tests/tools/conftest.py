from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture
def load_tool() -> Callable[[str], ModuleType]:
    """Import a file under tools/, which is no package."""

    def load(name: str) -> ModuleType:
        path = TOOLS / name
        spec = importlib.util.spec_from_file_location(f'tool_{path.stem}', path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
