from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.registry import init_default_scope

import mmseg_arta.datasets  # noqa: F401  (registers)
from mmseg_arta.datasets.toy import LAYOUTS, write_toy_dataset


@pytest.fixture(autouse=True)
def mmseg_scope() -> None:
    init_default_scope('mmseg')


@pytest.fixture(scope='session')
def toy_roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small toy data set of every layout."""
    folder = tmp_path_factory.mktemp('toy')
    return {
        layout: write_toy_dataset(folder / layout, layout, train=6, val=2, size=(72, 96))
        for layout in LAYOUTS
    }
