"""Settings of all tests."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope

import mmseg_arta  # noqa: F401  registers everything
from tests.caches import keep_bundled_configs, keep_environment, keep_formatted_text
from tests.wheels import build_wheel, copy_sources, pip

keep_bundled_configs()
keep_formatted_text()
keep_environment()


def pytest_collection_finish():
    """Collecting garbage, as every data set does, shall not walk through all that was imported."""
    gc.freeze()


def pytest_unconfigure():
    """What was imported can be freed at the end."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _deterministic():
    torch.manual_seed(0)
    init_default_scope('mmseg')


@pytest.fixture(scope='session')
def checkout(tmp_path_factory) -> Path:
    """A copy of the sources, for building."""
    folder = tmp_path_factory.mktemp('checkout')
    copy_sources(folder)
    return folder


@pytest.fixture(scope='session')
def wheel(checkout, tmp_path_factory) -> Path:
    """The wheel of the sources."""
    return build_wheel(checkout, tmp_path_factory.mktemp('wheel'))


@pytest.fixture(scope='session')
def site(wheel, tmp_path_factory) -> Path:
    """A folder with the wheel installed, to stand first on a new process's path."""
    folder = tmp_path_factory.mktemp('site')
    pip('install', '--target', folder, wheel)
    return folder
