"""Settings of all tests."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import init_default_scope

import mmseg_arta  # noqa: F401  registers everything


@pytest.fixture(autouse=True)
def _deterministic():
    torch.manual_seed(0)
    init_default_scope('mmseg')
